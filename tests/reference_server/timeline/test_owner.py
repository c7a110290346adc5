"""A lane's log, index and cache: what is written survives, once each."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from lane_servers import GraphStub, OpenLane, display_ids, numbers
from real_servers import Server, until

from reference_server.rpc import RpcError
from reference_server.timeline.cache_writer import NO_GEN, State
from reference_server.timeline.cached import HEADER_BYTES, make_value
from reference_server.timeline.defects import LaneDefects
from reference_server.timeline.entry import SLOT_BYTES, Status, labels_of, make_seq, pack_entry, status_of
from reference_server.timeline.index import LONGEST, Index, StatusMark
from reference_server.timeline.measures import DEFERRED_ENTRIES
from reference_server.timeline.owner import PostPage, Removal, Wake
from reference_server.timeline.slots import SLOT_DTYPE
from reference_server.timeline.wal import Progress

Open = Callable[..., OpenLane]


def cache_key(lane: OpenLane, user: int) -> bytes:
    assert lane.owner.cache is not None
    return b"tl:%d:%d" % (lane.owner.cache.gen_of(user), user)


def publish(lane: OpenLane, memcached: Server, user: int) -> None:
    """What a reader does after a miss."""
    _, _, floor, upto, slots, _ = lane.owner.rebuild(user)
    value = make_value(floor, upto, slots)
    assert memcached.send(b"ms %b %d\r\n%b\r\n" % (cache_key(lane, user), len(value), value)) == b"HD\r\n"


def cached(lane: OpenLane, memcached: Server, user: int) -> bytes:
    """All slots in the user's cached timeline."""
    answer = memcached.send(b"mg %b v\r\n" % cache_key(lane, user))
    if answer == b"EN\r\n":
        return b""
    return answer.partition(b"\r\n")[2][HEADER_BYTES:-2]


async def test_a_post_reaches_hot_followers_and_is_applied_once_the_cache_has_it(
    open_lane: Open, memcached: Server
) -> None:
    lane = await open_lane().join()
    publish(lane, memcached, 3)
    post = lane.post(1, hot=[1, 3, 5], cold=[7])
    assert lane.notices == []
    await lane.applied()
    assert display_ids(cached(lane, memcached, 3)) == [post]
    assert [(notice.post_id, notice.users.tolist()) for notice in lane.notices] == [(post, [1, 3, 5])]
    assert [lane.ids(user) for user in (1, 3, 5, 7)] == [[post], [post], [post], []]


async def test_no_key_is_made_by_an_append(open_lane: Open, memcached: Server) -> None:
    lane = await open_lane().join()
    lane.post(1, hot=[1, 2])
    await lane.applied()
    assert lane.owner.cache is not None
    assert cached(lane, memcached, 2) == b""
    assert not lane.owner.cache.cached.may_be[[1, 2]].any()


async def test_everything_is_there_again_after_the_owner_ends(open_lane: Open, memcached: Server) -> None:
    lane = await open_lane().join()
    posts = [lane.post(author, hot=[author, 9]) for author in (1, 2, 3)]
    lane.owner.write([Removal(posts[1], Status.DELETED)], "posts", "77-0")
    before, session = lane.owner.rebuild(9), lane.owner.activity.session
    await lane.close()
    again = await open_lane().join()
    assert again.ids(9) == posts
    assert again.owner.rebuild(9)[1:] == before[1:]
    assert again.owner.wal.position("posts") == ("77-0", ())
    assert again.owner.activity.session != session
    statuses = np.frombuffer(again.owner.index.slots_of(9), SLOT_DTYPE)["status"].tolist()
    assert statuses == [Status.VISIBLE, Status.DELETED, Status.VISIBLE]


async def test_a_post_queued_twice_is_written_once(open_lane: Open) -> None:
    lane = await open_lane().join()
    post_id, entry = lane.posts.entry(4)
    nobody = numbers([])
    for source in (b"posts:5-0", b"posts:6-0"):
        page = PostPage(source, post_id, 4, entry, numbers([4, 5]), nobody, 0, True)
        lane.owner.write([page], "posts", source[6:].decode())
    assert lane.ids(5) == [post_id]


async def test_a_follower_on_two_pages_of_one_post_gets_it_once_also_across_a_crash(open_lane: Open) -> None:
    lane = await open_lane().join()
    post_id, entry = lane.posts.entry(4)

    def page(owner_lane: OpenLane, number: int, users: list[int], last: bool) -> None:
        item = PostPage(b"celeb:5-0", post_id, 4, entry, numbers(users), numbers([]), number, last)
        progresses = [] if last else [Progress("5-0", number + 1, post_id)]
        owner_lane.owner.write([item], "celeb", "5-0" if last else "0-0", progresses)

    page(lane, 0, [1, 2, 3], last=False)
    page(lane, 1, [3, 6], last=False)
    assert [lane.ids(user) for user in (1, 2, 3, 6)] == [[post_id]] * 4
    await lane.close()
    again = await open_lane().join()
    assert again.owner.wal.position("celeb") == ("0-0", (Progress("5-0", 2, post_id),))
    page(again, 2, [6, 8], last=True)
    assert [again.ids(user) for user in (1, 3, 6, 8)] == [[post_id]] * 4
    assert again.owner.reached == {}


async def test_who_is_owed_a_post_is_counted_once_however_often_the_list_is_gone_through(open_lane: Open) -> None:
    lane = await open_lane().join()
    post_id, entry = lane.posts.entry(4)
    before = DEFERRED_ENTRIES._value.get()
    for number, is_repeat in enumerate((False, True, True)):
        page = PostPage(
            b"celeb:5-0", post_id, 4, entry, numbers([4]), numbers([5, 6]), number, is_repeat=is_repeat, last=False
        )
        lane.owner.write([page], "celeb", "0-0")
    assert DEFERRED_ENTRIES._value.get() == before + 2


async def test_appends_that_were_not_applied_are_repeated_at_takeover(open_lane: Open, memcached: Server) -> None:
    lane = await open_lane().join()
    publish(lane, memcached, 2)
    memcached.pause()
    posts = [lane.post(1, hot=[2]) for _ in range(150)]
    gen = lane.writer.gen
    await lane.close()
    memcached.resume()
    again = await open_lane().join()
    assert again.writer.gen == gen
    assert display_ids(cached(again, memcached, 2)) == posts[::-1]


async def test_a_restarted_memcached_raises_the_generation_and_nobody_waits_long(
    open_lane: Open, memcached: Server
) -> None:
    lane = await open_lane().join()
    cache = lane.writer
    gen = cache.gen
    memcached.kill()
    posts = [lane.post(1, hot=[2]) for _ in range(3)]
    await lane.applied()
    await until(lambda: cache.state is State.DOWN, "the loss is known")
    assert lane.owner.rebuild(2)[0] == NO_GEN
    posts.append(lane.post(1, hot=[2]))
    assert len(lane.notices) == 4
    memcached.start()
    await until(lambda: cache.state is State.UP, "memcached is back")
    assert lane.owner.rebuild(2)[0] == cache.gen > gen
    assert memcached.send(b"mg gen:0 v\r\n") == b"VA %d\r\n%d\r\n" % (len(str(cache.gen)), cache.gen)
    await lane.close()
    assert (await open_lane().join()).ids(2) == posts


async def test_a_broken_connection_leaves_no_stale_timeline_readable(open_lane: Open, memcached: Server) -> None:
    lane = await open_lane().join()
    cache = lane.writer
    publish(lane, memcached, 2)
    old = cache_key(lane, 2)
    cache._client.reset()
    lane.post(1, hot=[2])
    assert lane.notices == []
    await lane.applied()
    assert cache.state is State.UP
    assert memcached.send(b"mg gen:0 v\r\n").split(b"\r\n")[1] == b"%d" % cache.gen
    assert cache_key(lane, 2) != old


async def test_an_evicted_generation_key_is_written_again_when_somebody_misses(
    open_lane: Open, memcached: Server
) -> None:
    lane = await open_lane().join()
    lane.writer._gen_sent_s = 0.0
    memcached.send(b"md gen:0\r\n")
    await lane.service.rebuild(2)
    await until(lambda: memcached.send(b"mg gen:0\r\n") == b"HD\r\n", "the key is there")


async def test_long_lists_are_cut_and_their_floor_rises(open_lane: Open, memcached: Server) -> None:
    lane = await open_lane().join()
    posts = [lane.post(1, hot=[2]) for _ in range(4000)]
    kept = lane.ids(2)
    assert 800 <= len(kept) <= LONGEST
    assert len(lane.owner.index.lists[2]) < 4 * 4000
    assert kept == posts[-len(kept) :]
    await lane.applied()
    floor = lane.owner.rebuild(2)[2]
    assert 0 < floor & 0xFFFFFFFF <= int.from_bytes(lane.owner.index.slots_of(2)[:8], "big") & 0xFFFFFFFF
    await lane.close()
    again = await open_lane().join()
    assert 800 <= len(again.ids(2)) <= LONGEST
    assert again.ids(2) == posts[-len(again.ids(2)) :]


async def test_a_delete_that_overtakes_its_post_still_counts(open_lane: Open) -> None:
    lane = await open_lane().join()
    post_id, entry = lane.posts.entry(4)
    lane.owner.write([Removal(post_id, Status.DELETED)], "posts", "5-0")
    page = PostPage(b"celeb:6-0", post_id, 4, entry, numbers([4]), numbers([]), 0, True)
    lane.owner.write([page], "celeb", "6-0")
    assert lane.owner.index.slots_of(4)[-1] == Status.DELETED


async def test_a_deleted_post_is_marked_wherever_its_slots_are_handed_out(open_lane: Open) -> None:
    lane = await open_lane().join()
    before = lane.owner.head
    kept, gone = lane.post(1, hot=[2]), lane.post(1, hot=[2])
    await lane.applied()
    lane.owner.write([Removal(gone, Status.DELETED)], "posts", "77-0")
    statuses = np.frombuffer(lane.owner.rebuild(2)[4], SLOT_DTYPE)["status"].tolist()
    assert statuses == [Status.VISIBLE, Status.DELETED]
    assert [post for _, post in lane.owner.missed(2, before) or ()] == [kept]


def test_a_delete_takes_no_longer_in_a_long_log() -> None:
    index = Index(1, [0], 1, 800)
    index.put_slots(np.zeros(300_000, SLOT_DTYPE))
    began_s = time.process_time()
    for number in range(1, 1001):
        index.set_status(number.to_bytes(16, "big"), StatusMark(Status.DELETED))
    assert time.process_time() - began_s < 0.5  # looking at every slot takes seconds


async def test_a_lost_log_begins_a_higher_epoch(open_lane: Open, graph: GraphStub, tmp_path: object) -> None:
    lane = await open_lane().join()
    epoch = lane.owner.index.epoch
    await lane.close()
    import shutil
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    shutil.rmtree(tmp_path / "lane")
    again = await open_lane().join()
    assert again.owner.index.epoch > epoch
    assert again.writer.gen >> 20 == again.owner.index.epoch


async def test_the_planted_defect_forgets(open_lane: Open) -> None:
    lane = await open_lane(defects=LaneDefects(forgets=True)).join()
    lane.post(1, hot=[2])
    with pytest.raises(RpcError, match="lost"):
        await lane.service.rebuild(2)


async def test_users_of_other_lanes_are_refused(open_lane: Open) -> None:
    lane = await open_lane().join()
    for user in (50, -1):
        with pytest.raises(RpcError, match="not-found"):
            await lane.service.rebuild(user)


async def test_slots_have_the_numbers_of_their_records(open_lane: Open) -> None:
    lane = await open_lane().join()
    lane.post(1, hot=[2])
    lane.post(1, hot=[2, 3])
    _, epoch, floor, upto, slots, horizon_us = lane.owner.rebuild(2)
    seqs = [int.from_bytes(slots[n : n + 8], "big") for n in range(0, len(slots), SLOT_BYTES)]
    assert seqs == [make_seq(epoch, 1), make_seq(epoch, 2)]
    assert (floor, upto, horizon_us) == (make_seq(epoch, 0), make_seq(epoch, 2), 0)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ([(Status.HIDDEN_BY_AUTHOR, 5)], False),
        ([(Status.HIDDEN_BY_AUTHOR, 5), (Status.VISIBLE, 6)], True),
        ([(Status.VISIBLE, 6), (Status.HIDDEN_BY_AUTHOR, 5)], True),  # late, from another region
        ([(Status.DELETED, 1), (Status.VISIBLE, 9)], False),
        ([(Status.VISIBLE, 9), (Status.DELETED, 1)], False),
    ],
)
async def test_the_latest_change_of_a_status_wins_also_after_a_restart(
    open_lane: Open, changes: list[tuple[Status, int]], shown: bool
) -> None:
    lane = await open_lane().join()
    before = lane.owner.head
    post = lane.post(1, hot=[2])
    await lane.applied()
    for number, (status, hlc) in enumerate(changes):
        lane.owner.write([Removal(post, status, hlc)], "posts", f"{70 + number}-0")
    assert bool(lane.owner.missed(2, before)) is shown
    await lane.close()
    again = await open_lane().join()
    assert bool(again.owner.missed(2, before)) is shown


async def test_a_changed_status_keeps_the_labels(open_lane: Open) -> None:
    lane = await open_lane().join()
    post_id = bytes(15) + b"\x09"
    entry = pack_entry(post_id, 5, 1, labels=2)
    lane.owner.write([PostPage(b"posts:1-0", post_id, 1, entry, numbers([2]), numbers([]), 0, True)], "posts", "1-0")
    lane.owner.write([Removal(post_id, Status.MODERATED, 3)], "posts", "2-0")
    last = lane.owner.rebuild(2)[4][-1]
    assert (status_of(last), labels_of(last)) == (Status.MODERATED, 2)


async def test_a_page_may_wake_only_cold_followers_with_a_stream(open_lane: Open) -> None:
    lane = await open_lane().join()
    now_s = time.time()
    lane.owner.mark_hot(7, now_s + 60)
    lane.owner.activity.join("fep-0", [8], now_s)
    for wake in Wake:
        post_id, entry = lane.posts.entry(4)
        source = b"posts:%d-0" % lane.posts.count
        page = PostPage(source, post_id, 4, entry, numbers([]), numbers([6, 7, 8]), 0, True, wake)
        lane.owner.write([page], "posts", source[6:].decode())
    assert [len(lane.ids(user)) for user in (6, 7, 8)] == [0, 1, 2]
