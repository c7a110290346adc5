"""Pushing and pulling at one lane: who is passed over, and that later posts do not overtake what a reader is owed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from lane_servers import GraphStub, OpenLane, numbers
from real_servers import until

from reference_server.rpc import RpcError
from reference_server.timeline.activity import Activity
from reference_server.timeline.owner import PostPage, Wake

Open = Callable[..., OpenLane]


def pull(lane: OpenLane, author: int, followers: Iterable[int]) -> bytes:
    """A post that wakes those with a stream only."""
    post_id, entry = lane.posts.entry(author)
    source = b"posts:%d-0" % lane.posts.count
    page = PostPage(source, post_id, author, entry, numbers([]), numbers(followers), 0, True, Wake.PRESENT)
    lane.owner.write([page], "posts", f"{lane.posts.count}-0")
    return post_id


async def test_while_posts_are_pulled_a_session_is_not_enough_and_a_stream_is(
    open_lane: Open, graph: GraphStub
) -> None:
    graph.follow(1, [7, 8])
    lane = await open_lane().join()
    lane.merge.set_fanout("pull")
    await lane.service.materialise(7, 60)
    await lane.service.subscribe("fep-0", [[8, None]])
    posts = [pull(lane, 1, [7, 8]) for _ in range(2)]
    assert (lane.ids(7), lane.ids(8)) == ([], posts)
    assert not lane.merge.is_fresh(7)
    assert lane.merge.is_fresh(8)
    assert await lane.service.materialise(7, 60) == 2
    assert await lane.service.materialise(8, 60) == 0
    await lane.service.unsubscribe("fep-0", [8])
    posts.append(pull(lane, 1, [7, 8]))
    await lane.service.subscribe("fep-0", [[8, None]])  # what came meanwhile is merged, session or not
    assert lane.ids(8) == posts


async def test_pushed_posts_wait_until_what_was_pulled_is_merged(open_lane: Open, graph: GraphStub) -> None:
    graph.follow(1, [6, 7, 8])
    lane = await open_lane().join()
    await lane.service.materialise(7, 60)
    await lane.service.materialise(8, 60)
    lane.merge.set_fanout("hybrid")
    pulled = pull(lane, 1, [6, 7, 8])
    graph.away = True
    lane.merge.set_fanout("push")
    pushed = [lane.post(1, hot=[6, 7, 8]), lane.post(1, hot=[6], cold=[7, 8])]
    assert (lane.ids(6), lane.ids(7), lane.ids(8)) == (pushed, [], [])  # 6 has no session, so a first page merges
    with pytest.raises(RpcError, match="unavailable"):
        await lane.service.materialise(7, 60)
    graph.away = False
    await until(lambda: lane.ids(7) == lane.ids(8) == [pulled, *pushed], "merged in the background")
    await until(lambda: lane.owner.activity.behind is None, "nobody is behind")
    later = lane.post(1, hot=[], cold=[7])
    assert lane.ids(7) == [pulled, *pushed, later]


async def test_a_page_that_everybody_waits_for_is_a_record_all_the_same(open_lane: Open, graph: GraphStub) -> None:
    graph.follow(1, [7])
    lane = await open_lane().join()
    await lane.service.materialise(7, 60)
    lane.merge.set_fanout("pull")
    graph.away = True
    lane.merge.set_fanout("push")
    post = lane.post(1, hot=[7])
    assert lane.ids(7) == []
    graph.away = False
    await until(lambda: lane.ids(7) == [post], "merged in the background")


async def test_the_log_remembers_that_sessions_are_to_be_merged(open_lane: Open, graph: GraphStub) -> None:
    graph.follow(1, [7])
    lane = await open_lane().join()
    await lane.service.materialise(7, 60)
    lane.merge.set_fanout("pull")
    pulled = pull(lane, 1, [7])
    await lane.close()
    graph.away = True
    again = await open_lane().join()
    again.merge.set_fanout("push")
    pushed = again.post(1, hot=[7])
    assert again.ids(7) == []
    graph.away = False
    await until(lambda: again.ids(7) == [pulled, pushed], "merged in the background")
    await until(lambda: not again.owner.wal.number("unpushed"), "and the log told")
    again.merge.set_fanout("push")
    assert again.owner.activity.behind is None


async def test_switching_to_push_and_back_leaves_nobody_behind(open_lane: Open, graph: GraphStub) -> None:
    graph.follow(1, [7])
    lane = await open_lane().join()
    await lane.service.materialise(7, 60)
    lane.merge.set_fanout("pull")
    graph.away = True
    lane.merge.set_fanout("push")
    lane.merge.set_fanout("hybrid")
    post = lane.post(1, hot=[7])
    assert lane.ids(7) == [post]  # an ordinary author's, and every first page merges again
    graph.away = False


def test_edges_without_a_users_stream_are_not_asked_to_forget_it() -> None:
    activity = Activity(100)
    activity.join("fep-0", [5, 6], 0.0)
    activity.note_merged(6, 1.0)
    activity.leave("fep-0", [6, 7, 8], 2.0)
    assert np.flatnonzero(activity.presence).tolist() == [5]
    assert activity.merged_at[6] == 0
    assert activity.everywhere(numbers([1, 2])) == [("fep-0", bytes([1, 0, 0, 0, 2, 0, 0, 0]))]
