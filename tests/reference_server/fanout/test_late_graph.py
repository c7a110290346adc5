"""A real graph that is behind its stream: whoever followed before a post was accepted gets it; nobody else waits."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from fanout_region import FanoutRegion

from reference_server.events import GraphEvent, PostEvent
from reference_server.queue import Queue
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.stack,
    pytest.mark.parametrize("region", [{"real_graph": True}], indirect=True),
]


@pytest.fixture
async def crowd(region: FanoutRegion) -> FanoutRegion:
    """A worker that has the pages of authors 1, 2 (followed by 10) and 5 (who has not joined) in redis-cache."""
    for user in (1, 2, 10, 11):
        await region.change_graph("join", user)
    await region.change_graph("follow", 10, 1)
    await synced(region, await region.change_graph("follow", 10, 2))
    region.start_worker()
    await region.serving()
    for author in (1, 2, 5):
        await region.post(author)
    await region.caught_up()
    assert await region.bus.exists("followers:1:0", "followers:2:0", "followers:5:0") == 3
    return region


async def synced(region: FanoutRegion, place: str) -> None:
    """Wait until the graph has applied its stream up to there."""
    graph = RpcClient(region.socket("graph"))
    async with asyncio.timeout(20):
        while True:
            try:
                await graph.call("sync", place)
                return graph.close()
            except (RpcUnavailable, RpcTimeout, RpcError):
                await asyncio.sleep(0.02)


async def received(region: FanoutRegion, user: int, post: bytes) -> None:
    """Wait until the user has the post."""
    async with asyncio.timeout(10):
        while post not in await region.timeline(user):
            pass


def signal_graph(region: FanoutRegion, number: int) -> None:
    assert region.real_graph is not None
    region.real_graph.send_signal(number)
    if number == signal.SIGKILL:
        region.real_graph.wait()


async def test_a_follow_that_a_paused_graph_has_not_applied_counts(crowd: FanoutRegion) -> None:
    signal_graph(crowd, signal.SIGSTOP)
    await crowd.change_graph("follow", 11, 1)
    other = await crowd.post(2)
    post = await crowd.post(1)
    await received(crowd, 10, other)  # author 2 has the followers he had: his posts do not wait
    signal_graph(crowd, signal.SIGCONT)
    await crowd.caught_up()
    assert await crowd.timeline(11) == [post]
    assert (await crowd.timeline(10))[-2:] == [other, post]


async def test_a_celebritys_new_follower_counts_and_holds_up_no_other_celebrity(crowd: FanoutRegion) -> None:
    signal_graph(crowd, signal.SIGSTOP)
    await crowd.change_graph("follow", 11, 1)
    post = await crowd.post(1, "celeb")
    other = await crowd.post(2, "celeb")
    await received(crowd, 10, other)
    signal_graph(crowd, signal.SIGCONT)
    await crowd.caught_up("celeb")
    assert await crowd.timeline(11) == [post]


async def test_a_follow_while_the_graph_is_down_counts(crowd: FanoutRegion) -> None:
    signal_graph(crowd, signal.SIGKILL)
    await crowd.change_graph("follow", 11, 1)
    other = await crowd.post(2)
    post = await crowd.post(1)
    await received(crowd, 10, other)
    crowd.start_graph()
    await crowd.caught_up()
    assert await crowd.timeline(11) == [post]


async def test_a_worker_that_begins_while_the_graph_is_behind_misses_no_follow(crowd: FanoutRegion) -> None:
    signal_graph(crowd, signal.SIGSTOP)
    await crowd.change_graph("follow", 11, 1)
    crowd.workers[0].kill()
    crowd.workers[0].wait()
    post = await crowd.post(1)
    crowd.start_worker()
    await crowd.serving()
    async with asyncio.timeout(10):
        while b'feed_stage_seconds_count{stage="queue"} 1.0' not in await crowd.ask_worker(0, "metrics"):
            pass
    signal_graph(crowd, signal.SIGCONT)
    await crowd.caught_up()
    assert await crowd.timeline(11) == [post]


async def test_who_joins_follows_and_posts_in_one_batch_of_a_peer_is_heard(crowd: FanoutRegion) -> None:
    signal_graph(crowd, signal.SIGSTOP)
    queue = Queue(crowd.queue_server.port)
    hlc = time.time_ns() // 1000 << 8
    changes = [GraphEvent("join", 5, hlc, "eu"), GraphEvent("follow", 11, hlc + 256, "eu", 5)]
    post = PostEvent(b"p" * 16, 5, 1_000_000_000, "text", "eu")
    assert await queue.apply_replicated("eu", "1-0", [*changes, post])
    await queue.close()
    other = await crowd.post(2)
    signal_graph(crowd, signal.SIGCONT)
    await received(crowd, 10, other)
    assert (await crowd.timeline(11), await crowd.timeline(5)) == ([post.id], [post.id])


async def test_a_page_that_an_earlier_graph_could_not_delete_is_not_used(crowd: FanoutRegion) -> None:
    """It was killed behind its commit."""
    stale = await crowd.bus.get("followers:1:0")
    await synced(crowd, await crowd.change_graph("follow", 11, 1))
    signal_graph(crowd, signal.SIGKILL)
    await crowd.bus.set("followers:1:0", stale, ex=300)
    crowd.start_graph()
    await synced(crowd, await crowd.change_graph("join", 12))
    post = await crowd.post(1)
    await crowd.caught_up()
    assert post in await crowd.timeline(11)
