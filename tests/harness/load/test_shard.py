"""Who does what when several processes make the load: every arrival once, and what belongs together stays together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from harness.core.load_rates import Load
from harness.load.arrival_kinds import Arrival, ArrivalKind
from harness.load.plan import EdgePair, LoadPlan
from harness.load.schedule import arrivals
from harness.load.sessions import Roster
from harness.load.shard import Shard

RATES = Load(
    posts_per_s=20,
    reads_per_s=40,
    celebrity_posts_per_s=2,
    edges_per_s=2,
    deletes_per_s=2,
    hides_per_s=2,
    moderations_per_s=1,
    replies_per_s=4,
    likes_per_s=3,
    probes_per_s=3,
    repeats_per_s=3,
    signups_per_s=3,
    celebrity_signups_per_s=0.1,
)
HERE = "here"


def group(first: int, count: int) -> tuple[tuple[int, str], ...]:
    return tuple((user, HERE) for user in range(first, first + count))


@pytest.fixture
def plan(make_plan_of: Any) -> LoadPlan:
    made: LoadPlan = make_plan_of(
        rates=RATES,
        seconds=60.0,
        users=400,
        celebrities=group(0, 2),
        late_celebrities=group(2, 3),
        newcomers=150,
        panel=group(10, 11),
        posters=group(30, 7),
        readers=group(30, 90),
        edge_pairs=tuple(EdgePair(10 + i, 30 + i % 7, True) for i in range(11)),
    )
    return made


def identity(arrival: Arrival) -> tuple[str, int]:
    return arrival.kind, arrival.number


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_every_arrival_is_done_once(plan: LoadPlan, count: int) -> None:
    every = arrivals(plan)
    parts = [Shard(plan, index, count).of(every) for index in range(count)]
    assert sorted(identity(a) for part in parts for a in part) == sorted(identity(a) for a in every)
    assert {a.kind for a in every} == set(ArrivalKind) - {ArrivalKind.IMPORT_POLL}


def test_what_is_done_to_a_post_is_done_by_the_process_that_wrote_it(plan: LoadPlan) -> None:
    writer: dict[int, int] = {}
    changers: list[tuple[int, int]] = []
    for index in range(4):
        for arrival in Shard(plan, index, 4).of(arrivals(plan)):
            if arrival.kind is ArrivalKind.POST:
                writer[arrival.number] = index
            elif arrival.target >= 0 and arrival.kind is not ArrivalKind.EDGE:
                changers.append((arrival.target, index))
    assert len(changers) > 300
    assert all(writer[post] == index for post, index in changers)
    assert len(set(writer.values())) == 4


def test_a_user_acts_in_one_process_alone(plan: LoadPlan) -> None:
    acts: dict[int, set[int]] = {}
    for index in range(4):
        shard = Shard(plan, index, 4)
        for arrival in shard.of(arrivals(plan)):
            acts.setdefault(shard.user_of(arrival), set()).add(index)
    assert len(acts) > 100
    assert {len(processes) for processes in acts.values()} == {1}


def test_a_late_celebrity_is_signed_up_by_the_process_that_posts_as_him(plan: LoadPlan) -> None:
    for index in range(4):
        shard = Shard(plan, index, 4)
        mine = shard.of(arrivals(plan))
        joined = {a.actor for a in mine if a.kind is ArrivalKind.SIGNUP}
        posting = {shard.user_of(a) for a in mine if a.kind is ArrivalKind.CELEBRITY}
        assert posting & {2, 3, 4} <= joined


def test_groups_are_dealt_out_evenly(plan: LoadPlan) -> None:
    shards = [Shard(plan, index, 4) for index in range(4)]
    for members in (plan.panel, plan.posters, plan.celebrities):
        counts = [sum(shard.owns(user) for user, _ in members) for shard in shards]
        assert max(counts) - min(counts) <= 1
    loads = [len(shard.of(arrivals(plan))) for shard in shards]
    assert max(loads) < 1.5 * min(loads), Counter(loads)


def test_newcomers_are_known_by_the_process_that_signs_them_up(make_plan_of: Any) -> None:
    """Nobody is there before: reads and posts of newcomers are spread, whoever they will be."""
    plan = make_plan_of(
        rates=Load(signup_curve=True, reads_per_s=40, posts_per_s=20, deletes_per_s=2),
        seconds=30.0,
        users=200,
        panel=(),
        posters=(),
        readers=(),
        celebrities=(),
    )
    for index in range(4):
        mine = Counter(a.kind for a in Shard(plan, index, 4).of(arrivals(plan)))
        assert mine[ArrivalKind.SIGNUP] == 50
        assert mine[ArrivalKind.READ] == pytest.approx(300, rel=0.3)


def test_a_roster_lends_own_sessions_only() -> None:
    roster = Roster("panel-", group(0, 6), lambda user: user % 2 == 0)
    lent = [roster.take(2) for _ in range(5)]
    assert [session.user for session in lent] == [2, 4, 0, 2, 2]
    assert [session.name for session in lent[3:]] == ["panel-2+1", "panel-2+2"]
    assert roster.take_user(3) is None
    assert bool(Roster("panel-", group(0, 2), lambda user: False)), "the group is there, if nobody of it is ours"
