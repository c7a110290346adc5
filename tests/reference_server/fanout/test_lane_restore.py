"""A lane whose log is lost or damaged: archive and queue give everything back, once each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fanout_region import FanoutRegion
from lost_logs import archive, archive_file, feeds, kill, lane_directory, lose, post
from real_servers import until

from reference_server.durable import ArchiveBatch, SqliteWriter
from reference_server.durable.archive_pages import REFILL, REFILLED
from reference_server.partition import lane_of
from reference_server.timeline.entry import Status, status_of

pytestmark = [pytest.mark.slow, pytest.mark.stack]
USERS = range(1, 45)
HOT, COLD, CELEBRITY = 1, 2, 3


def follow(region: FanoutRegion) -> None:
    """Author 1 is followed by all, half of them cold; 2 by cold ones only; 3 is a celebrity of several pages."""
    region.graph.follow(HOT, [user for user in USERS if user % 2 and user != HOT])
    region.graph.follow(HOT, [user for user in USERS if user % 2 == 0], hot=False)
    region.graph.follow(COLD, [user for user in USERS if user != COLD], hot=False)
    region.graph.follow(CELEBRITY, [user for user in USERS if user != CELEBRITY])


async def life(region: FanoutRegion) -> dict[int, list[bytes]]:
    """Posts, deletes, a hide, a moderation that was lifted; partly archived, partly in the queue. Returns the feeds."""
    hot = [await post(region, HOT) for _ in range(10)]
    cold = [await post(region, COLD) for _ in range(10)]
    celebrity = [await post(region, CELEBRITY, "celeb") for _ in range(5)]
    await region.delete(hot[2], HOT)
    await region.change_status(cold[3], COLD, Status.HIDDEN_BY_AUTHOR, 5)
    await region.change_status(hot[4], HOT, Status.MODERATED, 6)
    await region.change_status(hot[4], HOT, Status.VISIBLE, 7)
    await region.caught_up("posts", "celeb")
    await feeds(region, range(1, 20))
    await archive(region, trim=True)
    later = [await post(region, author) for author in (HOT, COLD, HOT)]
    await region.delete(celebrity[0], CELEBRITY)
    await region.caught_up("posts", "celeb")
    await archive(region, trim=False)
    later += [await post(region, author) for author in (COLD, HOT)]
    await region.delete(later[0], HOT)
    await region.caught_up("posts", "celeb")
    return await feeds(region, USERS)


@pytest.mark.parametrize("region", [{"page": 10}], indirect=True)
@pytest.mark.parametrize("how", ["gone", "CURRENT gone", "garbage"])
async def test_a_lost_log_is_made_again_from_archive_and_queue(region: FanoutRegion, how: str) -> None:
    follow(region)
    region.start_worker()
    await region.serving()
    before = await life(region)
    assert [len(feed) for feed in before.values()] == [26] * len(before)
    epochs = [(await region.call(lane, "stats"))["epoch"] for lane in (0, 1)]
    await kill(region)
    lose(region, 0, how)
    region.start_worker()
    await region.serving()
    await region.caught_up("posts", "celeb")
    assert await feeds(region, USERS) == before
    stats = [await region.call(lane, "stats") for lane in (0, 1)]
    assert stats[0]["epoch"] > epochs[0]
    assert stats[1]["epoch"] == epochs[1]
    for user in USERS:
        found = await region.timeline(user)
        assert len(found) == len(set(found)), "something stands there twice"
    newest = await post(region, COLD)
    await region.caught_up()
    for user in (2, 4):  # readers may know of sessions that the lane has forgotten, and would not ask for a merge
        assert newest in await region.timeline(user)


async def test_a_lost_host_gets_cache_and_all_lanes_back(region: FanoutRegion) -> None:
    follow(region)
    region.start_worker()
    await region.serving()
    before = await life(region)
    await kill(region)
    region.memcached.kill()
    for lane in (0, 1):
        lose(region, lane, "gone")
        lane_directory(region, lane).with_name(f"{lane}.written").unlink()
    region.memcached.start()
    region.start_worker()
    await region.serving()
    await region.caught_up("posts", "celeb")
    assert await feeds(region, USERS) == before


@pytest.mark.parametrize("region", [{"lanes": 1}], indirect=True)
async def test_a_replay_that_is_cut_off_goes_on_where_it_stood(region: FanoutRegion) -> None:
    region.graph.follow(HOT, USERS)
    region.graph.follow(COLD, USERS, hot=False)
    posts = [await post(region, HOT) for _ in range(1000)]
    posts += [await post(region, COLD) for _ in range(400)]
    await archive(region, trim=True)
    region.graph.after_page = lambda author, page: setattr(region.graph, "away", True)
    region.start_worker()
    await until(lambda: (COLD, 0) in region.graph.refused, "a thousand are in the log, others wait", 60)
    await kill(region)
    region.graph.after_page = lambda author, page: None
    region.graph.away = False
    region.start_worker()
    await region.serving()
    found = await region.timeline(9)
    assert len(found) >= region.settings.depth
    assert found == posts[-len(found) :]
    assert region.graph.asked == [(HOT, 0), (COLD, 0)]


async def test_a_log_that_ends_before_the_queue_begins_gets_the_gap_from_the_archive(region: FanoutRegion) -> None:
    follow(region)
    region.start_worker()
    await region.serving()
    early = [await post(region, author) for author in (HOT, COLD, HOT)]
    await region.caught_up()
    await kill(region)
    saved = Path(shutil.copytree(lane_directory(region, 0), lane_directory(region, 0).with_name("saved")))
    region.start_worker()
    await region.serving()
    gap = [await post(region, author) for author in (HOT, COLD, COLD)]
    await region.delete(early[0], HOT)
    await region.caught_up()
    await archive(region, trim=True)
    last = await post(region, HOT)
    await region.caught_up()
    await kill(region)
    shutil.rmtree(lane_directory(region, 0))
    saved.rename(lane_directory(region, 0))
    region.start_worker()
    await region.serving()
    await region.caught_up()
    for user, feed in (await feeds(region, USERS)).items():
        assert feed == [last, *gap[::-1], *early[:0:-1]], user


async def test_what_an_archive_lacks_that_is_being_filled_anew_is_left_to_it(region: FanoutRegion) -> None:
    follow(region)
    region.start_worker()
    await region.serving()
    before = await post(region, HOT)
    await region.caught_up()
    await kill(region)
    writer = SqliteWriter(archive_file(region))
    writer.archive(ArchiveBatch(positions={REFILL: ""}))
    lose(region, 0, "gone")
    region.start_worker()
    await region.serving()
    await region.caught_up()
    assert (await feeds(region, range(1, 9)))[1] == [before]
    assert (await region.call(0, "stats"))["horizon_us"] > 0
    await kill(region)
    writer.archive(ArchiveBatch(positions={REFILL: REFILLED}))
    writer.close()
    lose(region, 0, "gone")
    region.start_worker()
    await region.serving()
    assert (await region.call(0, "stats"))["horizon_us"] == 0


async def test_without_a_readable_archive_the_queue_alone_goes_on(region: FanoutRegion) -> None:
    follow(region)
    region.start_worker()
    await region.serving()
    before = await post(region, HOT)
    await region.caught_up()
    await archive(region, trim=False)
    await kill(region)
    archive_file(region).write_bytes(b"garbage" * 1000)
    lose(region, 0, "gone")
    region.start_worker()
    await region.serving()
    await region.caught_up()
    assert (await feeds(region, range(1, 9)))[1] == [before]
    assert (await region.call(0, "stats"))["horizon_us"] > 0
    assert (await region.call(1, "stats"))["horizon_us"] == 0


@pytest.mark.parametrize("region", [{"flags": {"wal": False}}], indirect=True)
async def test_with_the_flag_wal_off_the_next_owner_begins_without_timelines(region: FanoutRegion) -> None:
    follow(region)
    region.start_worker()
    await region.serving()
    archived = await post(region, HOT)
    await region.caught_up()
    await archive(region, trim=False)
    queued = await post(region, HOT)  # not archived
    await region.caught_up()
    assert await region.timeline(1) == [archived, queued]
    lane = lane_of(1, 2)
    epoch = (await region.call(lane, "stats"))["epoch"]
    await kill(region)
    region.start_worker()
    await region.serving()
    later = await post(region, HOT)
    await region.caught_up()
    assert await region.timeline(1) == [queued, later], "what the durable store lacks is read from the queue again"
    stats = await region.call(lane, "stats")
    assert stats["epoch"] > epoch
    assert stats["horizon_us"] > 0, "what is older must come from the durable store"


@pytest.mark.parametrize("region", [{"flags": {"retention_s": 2}}], indirect=True)
async def test_the_flag_retention_is_followed_while_running(region: FanoutRegion) -> None:
    follow(region)
    region.start_worker()
    await region.serving()
    await post(region, HOT)
    await region.caught_up()
    while await region.timeline(1):
        pass
    await region.set_flag("retention_s", 86_400)
    kept = await post(region, HOT)
    await region.caught_up()
    assert await region.timeline(1) == [kept]
    reply = await region.call(lane_of(1, 2), "rebuild", 1)
    assert reply[5] > 0
    assert status_of(reply[4][-1]) is Status.VISIBLE
