"""Cold merges, sessions and subscriptions: nothing owed is lost, nothing comes twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from lane_servers import GraphStub, OpenLane, numbers
from real_servers import Server, until

from reference_server.rpc import RpcError
from reference_server.timeline.entry import Status, make_seq
from reference_server.timeline.owner import PostPage, Removal

Open = Callable[..., OpenLane]


async def test_a_session_gets_what_cold_followees_posted_and_then_everything_at_once(
    open_lane: Open, graph: GraphStub
) -> None:
    graph.follow(1, [7], hot=False)
    lane = await open_lane().join()
    owed = [lane.post(1, hot=[1], cold=[7]) for _ in range(3)]
    assert lane.ids(7) == []
    assert await lane.service.materialise(7, 60) == 3
    assert lane.ids(7) == owed
    assert lane.owner.applied == lane.owner.index.next - 1
    direct = lane.post(1, hot=[1], cold=[7])
    assert lane.ids(7) == [*owed, direct]
    assert await lane.service.materialise(7, 60) == 0


async def test_sessions_and_merges_survive_the_owner(open_lane: Open, graph: GraphStub) -> None:
    graph.follow(1, [7, 8], hot=False)
    lane = await open_lane().join()
    owed = lane.post(1, hot=[1], cold=[7, 8])
    await lane.service.materialise(7, 60)
    await lane.close()
    again = await open_lane().join()
    assert again.ids(7) == [owed]
    direct = again.post(1, hot=[1], cold=[7, 8])
    assert again.ids(7) == [owed, direct]
    assert await again.service.materialise(7, 60) == 0
    assert await again.service.materialise(8, 60) == 2
    assert again.ids(8) == [owed, direct]


async def test_a_session_that_lapsed_makes_the_user_owed_again(open_lane: Open, graph: GraphStub) -> None:
    graph.follow(1, [7], hot=False)
    lane = await open_lane().join()
    await lane.service.materialise(7, 60)
    lane.owner.activity.hot_until[7] = time.time() - 1
    post = lane.post(1, hot=[], cold=[7])
    assert lane.ids(7) == []
    assert await lane.service.materialise(7, 60) == 1
    assert lane.ids(7) == [post]


async def test_a_merge_in_the_middle_of_a_post_with_many_pages_doubles_nothing(
    open_lane: Open, graph: GraphStub
) -> None:
    graph.follow(1, [3, 7], hot=False)
    lane = await open_lane().join()
    post_id, entry = lane.posts.entry(1)

    def page(number: int, cold: list[int], last: bool) -> None:
        item = PostPage(b"celeb:1-0", post_id, 1, entry, numbers([]), numbers(cold), number, last)
        lane.owner.write([item], "celeb", "1-0")

    page(0, [3], last=False)
    assert await lane.service.materialise(7, 60) == 1
    page(1, [7], last=True)
    assert lane.ids(7) == [post_id]


async def test_without_the_graph_a_session_is_refused_but_marked(open_lane: Open, graph: GraphStub) -> None:
    lane = await open_lane().join()
    graph.away = True
    with pytest.raises(RpcError, match="unavailable"):
        await lane.service.materialise(7, 60)
    post = lane.post(1, hot=[], cold=[7])
    assert lane.ids(7) == [post]


async def test_deleted_posts_are_not_owed(open_lane: Open, graph: GraphStub) -> None:
    graph.follow(1, [7], hot=False)
    lane = await open_lane().join()
    post = lane.post(1, hot=[], cold=[7])
    lane.owner.write([Removal(post, Status.DELETED)], "posts", "9-0")
    assert await lane.service.materialise(7, 60) == 0


async def test_posts_of_followees_found_late_come_on_request(open_lane: Open, graph: GraphStub) -> None:
    lane = await open_lane().join()
    post = lane.post(1, hot=[1])
    assert await lane.service.materialise(7, 60) == 0
    graph.follow(1, [7])
    assert await lane.service.materialise(7, 60, True) == 1
    assert lane.ids(7) == [post]


async def test_a_new_subscription_starts_at_the_head(open_lane: Open, graph: GraphStub) -> None:
    graph.follow(1, [7], hot=False)
    lane = await open_lane().join()
    owed = lane.post(1, hot=[1], cold=[7])
    session, count, answers = await lane.service.subscribe("fep-0", [[7, None]])
    assert (session, count) == (lane.owner.activity.session, 0)
    assert answers == [[lane.owner.head, []]]
    assert lane.ids(7) == [owed]
    assert lane.owner.applied == 2


async def test_a_resumed_subscription_gets_exactly_what_it_missed(open_lane: Open, graph: GraphStub) -> None:
    graph.follow(1, [7], hot=False)
    lane = await open_lane().join()
    first = lane.post(2, hot=[7])
    await lane.applied()
    since = lane.owner.head
    later = [lane.post(2, hot=[7]), lane.post(2, hot=[9]), lane.post(2, hot=[7])]
    owed = lane.post(1, hot=[], cold=[7])
    _, _, [[head, missed]] = await lane.service.subscribe("fep-0", [[7, since]])
    assert [post for _, post in missed] == [later[0], later[2], owed]
    assert [seq for seq, _ in missed] == sorted(seq for seq, _ in missed)
    assert all(since < seq <= head for seq, _ in missed)
    assert first not in [post for _, post in missed]


async def test_what_cannot_be_filled_is_said(open_lane: Open) -> None:
    lane = await open_lane().join()
    for _ in range(4000):
        lane.post(2, hot=[7])
    await lane.applied()
    epoch = lane.owner.index.epoch
    tokens = [make_seq(epoch - 1, 5), make_seq(epoch, 3), lane.owner.head + 1, lane.owner.head]
    _, _, answers = await lane.service.subscribe("fep-0", [[7, token] for token in tokens])
    assert [missed for _, missed in answers] == [None, None, None, []]


async def test_after_subscribing_every_record_is_notified_whatever_the_tier(open_lane: Open) -> None:
    lane = await open_lane().join()
    _, _, [[head, _]] = await lane.service.subscribe("fep-0", [[7, None]])
    post = lane.post(1, hot=[], cold=[6, 7])
    await lane.applied()
    (notice,) = lane.notices
    assert notice.post_id == post
    assert make_seq(lane.owner.index.epoch, notice.number) > head
    assert lane.owner.activity.edges_of(notice.users) == [("fep-0", (7).to_bytes(4, "little"))]
    await lane.service.unsubscribe("fep-0", [7])
    lane.post(1, hot=[], cold=[7])
    assert lane.ids(7) == [post]


async def test_subscribing_goes_on_without_the_graph_and_settles_later(open_lane: Open, graph: GraphStub) -> None:
    graph.follow(1, [7], hot=False)
    lane = await open_lane().join()
    owed = lane.post(1, hot=[1], cold=[7])
    graph.away = True
    _, _, [[head, missed]] = await lane.service.subscribe("fep-0", [[7, None]])
    assert missed == []
    graph.away = False
    await until(lambda: lane.ids(7) == [owed], "settled in the background")
    await until(lambda: lane.notices[-1].users.tolist() == [7], "and notified")
    assert lane.notices[-1].post_id == owed
    assert make_seq(lane.owner.index.epoch, lane.notices[-1].number) > head


async def test_a_second_stream_of_an_active_user_asks_nobody(open_lane: Open, graph: GraphStub) -> None:
    lane = await open_lane().join()
    await lane.service.subscribe("fep-0", [[7, None]])
    graph.away = True
    async with asyncio.timeout(0.2):
        await lane.service.subscribe("fep-1", [[7, None]])
    assert lane.merge.is_fresh(7)


async def test_calls_go_over_the_socket(open_lane: Open, sockets: str, memcached: Server) -> None:
    from reference_server.rpc import RpcClient

    lane = await open_lane().join()
    lane.post(1, hot=[2])
    await lane.applied()
    await lane.serve(f"{sockets}/lane.sock")
    client = RpcClient(f"{sockets}/lane.sock")
    assert await client.call("ping") == "pong"
    assert await client.call("position") == {"posts": "1-0", "celeb": "0-0"}
    gen, epoch, _floor, _upto, slots, horizon_us = await client.call("rebuild", 2)
    assert (gen, epoch, slots) == (lane.owner.cache.gen_of(2), lane.owner.index.epoch, lane.owner.index.slots_of(2))  # type: ignore[union-attr]
    assert horizon_us == 0
    assert await client.call("bus_head", "fep-0") == [lane.owner.activity.session, 0]
    assert (await client.call("stats"))["records"] == 1
    client.close()


async def test_a_position_is_told_once_it_is_on_disk(open_lane: Open) -> None:
    lane = await open_lane().join()
    lane.post(1, hot=[2])
    assert not lane.owner.wal.is_synced
    assert (await lane.service.position())["posts"] == "1-0"
    assert lane.owner.wal.is_synced
