"""A lane over three memcached nodes: one is lost, paused or restarted, and nothing is lost, nobody else notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from lane_servers import GraphStub, OpenLane, display_ids
from real_servers import Server, memcached_server, until

from reference_server.partition import node_of
from reference_server.timeline.cache_measures import NODE_STATE
from reference_server.timeline.cache_writer import MAX_OUTSTANDING, NO_GEN, State
from reference_server.timeline.cached import make_value, read_value

USERS = 60
EVERYBODY = range(USERS)
LOST = 1
"""the node that things happen to"""
THEIRS = [user for user in EVERYBODY if node_of(user, 3) == LOST]
OTHERS = [user for user in EVERYBODY if node_of(user, 3) != LOST]
Open = Callable[[], OpenLane]


@pytest.fixture
def nodes() -> Iterator[list[Server]]:
    servers = [memcached_server() for _ in range(3)]
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
async def open_nodes(tmp_path: Path, nodes: list[Server], graph: GraphStub) -> AsyncIterator[Open]:
    """Opens the lane (again, once it was closed)."""
    lanes: list[OpenLane] = []

    def start() -> OpenLane:
        first, *more = (server.port for server in nodes)
        lanes.append(OpenLane(tmp_path / "lane", first, graph, USERS, more_ports=more))
        return lanes[-1]

    yield start
    if lanes:
        await lanes[-1].close()


def states(lane: OpenLane) -> list[State]:
    assert lane.owner.cache is not None
    return [node.state for node in lane.owner.cache.nodes]


def gens(lane: OpenLane) -> list[int]:
    assert lane.owner.cache is not None
    return [node.gen for node in lane.owner.cache.nodes]


def publish(lane: OpenLane, nodes: list[Server]) -> list[int]:
    """What readers do after a miss, for everybody whose node may be filled; returns whom."""
    done = []
    for user in EVERYBODY:
        gen, _, floor, upto, slots, *_ = lane.owner.rebuild(user)
        if gen != NO_GEN:
            value = make_value(floor, upto, slots)
            command = b"ms tl:%d:%d %d\r\n%b\r\n" % (gen, user, len(value), value)
            assert nodes[node_of(user, 3)].send(command) == b"HD\r\n"
            done.append(user)
    return done


def cached(nodes: list[Server], user: int) -> list[bytes] | None:
    """The post ids that a reader finds in the user's timeline, newest first; None: there is none that counts."""
    server = nodes[node_of(user, 3)]
    answer = server.send(b"mg gen:0 v\r\n").split(b"\r\n")
    if answer[0] == b"EN":
        return None
    value = server.send(b"mg tl:%b:%d v\r\n" % (answer[1], user))
    timeline = read_value(value.partition(b"\r\n")[2][:-2])
    return None if timeline is None else display_ids(timeline.slots)


def assert_complete(lane: OpenLane, nodes: list[Server]) -> int:
    """Every cached timeline is what the index has; returns how many there are."""
    found = 0
    for user in EVERYBODY:
        ids = cached(nodes, user)
        if ids is not None:
            found += 1
            assert ids == lane.ids(user)[::-1], f"user {user}"
    return found


async def test_each_timeline_is_on_its_node_and_every_node_has_its_own_generation(
    open_nodes: Open, nodes: list[Server]
) -> None:
    lane = await open_nodes().join()
    assert {node_of(user, 3) for user in EVERYBODY} == {0, 1, 2}
    assert publish(lane, nodes) == list(EVERYBODY)
    posts = [lane.post(1, hot=EVERYBODY) for _ in range(20)]
    posts.append(lane.post(1, hot=[5]))
    await lane.applied()
    assert lane.ids(5) == posts
    assert assert_complete(lane, nodes) == USERS
    assert [notice.number for notice in lane.notices] == list(range(1, 22))
    assert lane.owner.cache is not None
    lane.owner.cache.nodes[LOST]._client.reset()
    await until(lambda: states(lane) == [State.UP] * 3 and gens(lane)[LOST] > gens(lane)[0], "raised")
    assert [cached(nodes, user) is not None for user in EVERYBODY] == [user in OTHERS for user in EVERYBODY]


async def test_a_killed_node_loses_nothing_and_nobody_else_notices(open_nodes: Open, nodes: list[Server]) -> None:
    lane = await open_nodes().join()
    publish(lane, nodes)
    before = gens(lane)
    posts = [lane.post(1, hot=EVERYBODY) for _ in range(5)]
    nodes[LOST].kill()
    for _ in range(50):
        await lane.owner.wait_room()
        posts.append(lane.post(1, hot=EVERYBODY))
    await lane.applied()
    assert states(lane) == [State.UP, State.DOWN, State.UP]
    assert all(cached(nodes, user) == posts[::-1] for user in OTHERS)
    assert [lane.owner.rebuild(user)[0] == NO_GEN for user in EVERYBODY] == [user in THEIRS for user in EVERYBODY]
    nodes[LOST].start()
    await until(lambda: states(lane) == [State.UP] * 3, "the node is back")
    assert [now > then for now, then in zip(gens(lane), before, strict=True)] == [False, True, False]
    assert assert_complete(lane, nodes) == len(OTHERS)
    publish(lane, nodes)
    posts.append(lane.post(1, hot=EVERYBODY))
    await lane.applied()
    assert assert_complete(lane, nodes) == USERS
    assert [notice.post_id for notice in lane.notices] == posts


async def test_a_paused_node_stalls_the_others_no_longer_than_its_timeout_and_is_outdated_afterwards(
    open_nodes: Open, nodes: list[Server]
) -> None:
    lane = await open_nodes().join()
    cache = lane.owner.cache
    assert cache is not None
    publish(lane, nodes)
    lane.post(1, hot=EVERYBODY)
    await lane.applied()
    before = gens(lane)
    nodes[LOST].pause()
    cache.nodes[LOST]._keep_gen()  # lies in the paused server's socket until it goes on
    async with asyncio.timeout(5):
        for _ in range(3 * MAX_OUTSTANDING):
            await lane.owner.wait_room()
            lane.post(1, hot=EVERYBODY)
        await lane.applied()
    assert states(lane) == [State.UP, State.DOWN, State.UP]
    posts = lane.ids(0)
    assert all(cached(nodes, user) == posts[::-1] for user in OTHERS)
    nodes[LOST].resume()
    await until(lambda: states(lane) == [State.UP] * 3, "the node is back")
    assert gens(lane)[LOST] == before[LOST] + 1
    for _ in range(100):
        answer = nodes[LOST].send(b"mg gen:0 v\r\n").split(b"\r\n")[1]
        assert int(answer) == before[LOST] + 1
        await asyncio.sleep(0)
    assert assert_complete(lane, nodes) == len(OTHERS)


async def test_breaks_of_every_kind_lose_nothing(open_nodes: Open, nodes: list[Server]) -> None:
    """Kill, restart, flush and reset go round the nodes while posts are written and readers publish."""
    lane = await open_nodes().join()
    assert lane.owner.cache is not None
    for step in range(24):
        server, writer = nodes[step % 3], lane.owner.cache.nodes[step % 3]
        for number in range(4):
            await lane.owner.wait_room()
            lane.post(1, hot=[user for user in EVERYBODY if (user + step + number) % 3])
        if step % 4 == 0:
            server.kill()
        elif step % 4 == 1:
            server.send(b"flush_all\r\n")
        elif step % 4 == 2:
            writer._client.reset()
        else:
            server.kill()
            server.start()
        lane.post(1, hot=EVERYBODY)
        if step % 4 == 0:
            await lane.applied()
            server.start()
        await until(lambda: states(lane) == [State.UP] * 3, "all nodes are there")
        await lane.applied()
        publish(lane, nodes)
    lane.post(1, hot=EVERYBODY)
    await lane.applied()
    assert assert_complete(lane, nodes) == USERS
    assert len(lane.notices) == lane.owner.index.next - 1


async def test_an_empty_node_with_cas_numbers_of_old_takes_no_outdated_timeline(
    open_nodes: Open, nodes: list[Server]
) -> None:
    """A reader's lease from before the restart, whose CAS number the new server gives out again, publishes nowhere."""
    lane = await open_nodes().join()
    user = THEIRS[0]
    gen = lane.owner.rebuild(user)[0]
    lease = nodes[LOST].send(b"mg tl:%d:%d v c N5\r\n" % (gen, user))
    nodes[LOST].kill()
    nodes[LOST].start()
    post = lane.post(1, hot=EVERYBODY)
    await until(lambda: states(lane) == [State.UP] * 3 and gens(lane)[LOST] > gens(lane)[0], "back, and raised")
    cas = next(word[1:] for word in lease.split() if word[:1] == b"c")
    value = make_value(0, 0, b"")
    for number in range(int(cas) + 1):  # the new server reaches the old number
        nodes[LOST].send(b"ms other%d 1\r\nx\r\n" % number)
    nodes[LOST].send(b"ms tl:%d:%d %d C%b\r\n%b\r\n" % (gen, user, len(value), cas, value))
    assert cached(nodes, user) is None
    publish(lane, nodes)
    assert cached(nodes, user) == [post]


async def test_generations_of_all_nodes_outlive_the_owner(open_nodes: Open, nodes: list[Server]) -> None:
    lane = await open_nodes().join()
    publish(lane, nodes)
    nodes[2].kill()
    lane.post(1, hot=EVERYBODY)
    await lane.applied()
    raised = gens(lane)
    assert raised[2] == raised[0] + 1
    await lane.close()
    nodes[2].start()
    again = await open_nodes().join()
    assert gens(again) == raised
    assert assert_complete(again, nodes) == sum(node_of(user, 3) != 2 for user in EVERYBODY)


async def test_a_node_that_is_away_at_takeover_does_not_hold_the_lane_up(open_nodes: Open, nodes: list[Server]) -> None:
    nodes[LOST].pause()
    lane = open_nodes()
    async with asyncio.timeout(5):
        await lane.join()
        lane.post(1, hot=EVERYBODY)
        await lane.applied()
    assert states(lane) == [State.UP, State.DOWN, State.UP]
    assert NODE_STATE.labels("1", "0")._value.get() == State.DOWN.value
    nodes[LOST].resume()
    await until(lambda: states(lane) == [State.UP] * 3, "the node is there")


async def test_a_timeline_nobody_reads_is_dropped_before_it_grows_for_ever(
    open_nodes: Open, nodes: list[Server]
) -> None:
    lane = await open_nodes().join()
    publish(lane, nodes)
    reader, sleeper = OTHERS[:2]
    cache = lane.owner.cache
    assert cache is not None
    for _ in range(300):
        for _ in range(10):
            lane.post(1, hot=[reader, sleeper])
        await lane.applied()
        gen, _, floor, upto, slots, *_ = lane.owner.rebuild(reader)
        value = make_value(floor, upto, slots[-100 * 45 :])
        nodes[node_of(reader, 3)].send(b"ms tl:%d:%d %d\r\n%b\r\n" % (gen, reader, len(value), value))
    assert cache.cached.may_be[reader]
    assert not cache.cached.may_be[sleeper]
    assert nodes[node_of(sleeper, 3)].send(b"mg tl:%d:%d\r\n" % (cache.gen_of(sleeper), sleeper)) == b"EN\r\n"


async def test_an_append_that_is_refused_voids_the_node(open_nodes: Open, nodes: list[Server]) -> None:
    """An error names no key, so no timeline of the node can be trusted any more."""
    lane = await open_nodes().join()
    cache = lane.owner.cache
    assert cache is not None
    publish(lane, nodes)
    before = gens(lane)
    appends = cache.appends()
    appends.parts[LOST].append(b"ms tl:1:1 2000000 MA q k\r\n" + bytes(2_000_000) + b"\r\n")
    lane.owner.index.put_slot(bytes(45))
    cache.send(appends, lane.owner.index.next - 1)
    await lane.applied()
    assert [now - then for now, then in zip(gens(lane), before, strict=True)] == [0, 1, 0]
    assert assert_complete(lane, nodes) == len(OTHERS)


async def test_batches_without_a_node_s_users_need_no_answer_of_it(open_nodes: Open, nodes: list[Server]) -> None:
    lane = await open_nodes().join()
    publish(lane, nodes)
    nodes[LOST].pause()
    for _ in range(3 * MAX_OUTSTANDING):
        async with asyncio.timeout(1):
            await lane.owner.wait_room()
            lane.post(1, hot=OTHERS)
            await lane.applied()
    assert states(lane) == [State.UP] * 3
    nodes[LOST].resume()
