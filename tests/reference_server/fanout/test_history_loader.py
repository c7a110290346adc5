"""Timelines of the time before the run: what a brute-force look at the population says, and loaded once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from lane_servers import ids_of
from real_servers import Server, memcached_server

from reference_server.fanout.history import HistoryLoader, prewarm
from reference_server.partition import lane_of
from reference_server.seeding import Population, history_posts, read_population
from reference_server.timeline.cached import for_display, read_value
from reference_server.timeline.index import Index
from reference_server.timeline.owner import LaneOwner
from reference_server.timeline.takeover import join_cache, lane_users, restore
from reference_server.timeline.wal import Kind, Wal

USERS, LANES = 60, 2


@pytest.fixture
def population(tmp_path: Path) -> Population:
    random = np.random.default_rng(4)
    lists = [np.flatnonzero(random.random(USERS) < 0.2).astype("<u4") for _ in range(USERS)]
    folder = tmp_path / "population"
    folder.mkdir()
    followees = np.concatenate(lists)
    np.save(folder / "offsets.npy", np.r_[0, np.cumsum([len(one) for one in lists])].astype("<i8"))
    np.save(folder / "followees.npy", followees)
    np.save(folder / "hot.npy", (random.random(len(followees)) < 0.5).astype("u1"))
    described = {"version": 1, "users": USERS, "seed": 3, "history": 36, "joined": "all", "mean_follows": 12.0}
    (folder / "population.json").write_bytes(msgspec.json.encode(described))
    return read_population(folder, 1_700_000_000_000_000)


def open_owner(folder: Path, lane: int) -> LaneOwner:
    wal = Wal(folder / str(lane))
    index = Index(wal.epoch, lane_users(lane, LANES, USERS), USERS, 800)
    owner = LaneOwner(lane, wal, index, lambda _, __: None)
    restore(owner)
    return owner


def expected(population: Population, user: int) -> list[bytes]:
    posts = history_posts(population)
    authors = {user, *population.follows(user).tolist()}
    return [posts.ids[n].tobytes() for n in range(len(posts)) if int(posts.authors[n]) in authors]


def listed(owner: LaneOwner, user: int) -> list[bytes]:
    return owner.index.ids_of(user)


def test_every_user_has_the_posts_of_everybody_followed_and_the_own_ones(
    tmp_path: Path, population: Population
) -> None:
    loader = HistoryLoader(population, LANES)
    owners = [open_owner(tmp_path, lane) for lane in range(LANES)]
    for owner in owners:
        assert loader.is_needed(owner.wal)
        loader.load(owner)
        assert owner.applied == owner.history == owner.index.next - 1
    for user in range(USERS):
        assert listed(owners[lane_of(user, LANES)], user) == expected(population, user)
    for owner in owners:
        owner.wal.close()
    again = open_owner(tmp_path, 0)
    assert not loader.is_needed(again.wal)
    assert again.history == again.index.next - 1
    assert all(listed(again, user) == expected(population, user) for user in again.index.users)
    again.wal.close()


def test_who_had_not_joined_has_no_timeline_and_is_in_nobodys(tmp_path: Path, population: Population) -> None:
    late = tuple(range(0, USERS, 7))
    population = replace(population, late=late)
    loader = HistoryLoader(population, LANES)
    for lane in range(LANES):
        owner = open_owner(tmp_path, lane)
        loader.load(owner)
        for user in owner.index.users:
            assert listed(owner, user) == ([] if user in late else expected(population, user))
        owner.wal.close()
    assert not set(late) & set(history_posts(population).authors.tolist())


def test_a_load_that_was_cut_off_leaves_nothing_behind(tmp_path: Path, population: Population) -> None:
    owner = open_owner(tmp_path, 0)
    batch = owner.wal.batch()
    for number in range(1, 5):
        batch.record(number, bytes(37), Kind.POST, owner.index.users[0].to_bytes(4, "little"))
    owner.wal.write(batch)
    owner.wal.close()
    wal = Wal(tmp_path / "0")
    loader = HistoryLoader(population, LANES)
    assert loader.is_needed(wal)
    wal.clear_records()
    wal.close()
    owner = open_owner(tmp_path, 0)
    loader.load(owner)
    owner.wal.close()
    again = open_owner(tmp_path, 0)
    assert all(listed(again, user) == expected(population, user) for user in again.index.users)
    again.wal.close()


@pytest.fixture
def memcached() -> Iterator[Server]:
    server = memcached_server()
    server.start()
    yield server
    server.kill()


async def test_the_cache_is_warm_before_the_first_read(
    tmp_path: Path, population: Population, memcached: Server
) -> None:
    owner = open_owner(tmp_path, 0)
    await asyncio.to_thread(HistoryLoader(population, LANES).load, owner)
    await join_cache(owner, [memcached.port])
    assert owner.cache is not None
    await prewarm(owner, 800)
    user = owner.index.users[3]
    answer = memcached.send(b"mg tl:%d:%d v\r\n" % (owner.cache.gen_of(user), user))
    timeline = read_value(answer.partition(b"\r\n")[2][:-2])
    assert timeline is not None
    assert ids_of(for_display(timeline.slots)) == expected(population, user)[::-1]
    await owner.close()


async def test_only_the_newest_part_is_cached_and_the_cut_is_told(
    tmp_path: Path, population: Population, memcached: Server
) -> None:
    owner = open_owner(tmp_path, 0)
    await asyncio.to_thread(HistoryLoader(population, LANES).load, owner)
    await join_cache(owner, [memcached.port])
    assert owner.cache is not None
    user = max(owner.index.users, key=lambda user: len(listed(owner, user)))
    whole = expected(population, user)[::-1]
    await prewarm(owner, 3)
    answer = memcached.send(b"mg tl:%d:%d v\r\n" % (owner.cache.gen_of(user), user))
    timeline = read_value(answer.partition(b"\r\n")[2][:-2])
    assert timeline is not None
    assert len(whole) > 3
    assert ids_of(for_display(timeline.slots)) == whole[:3]
    left_out = for_display(owner.index.slots_of(user))[3]
    assert timeline.cut_us == left_out["ts_us"]
    await owner.close()
