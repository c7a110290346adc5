"""Handing out arrivals: what is late, what is dropped, and that a generator at its limit is never believed."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import gevent.event
import pytest

from harness.core.clock import NS_PER_S, now_ns
from harness.judge.case import LoadReport
from harness.judge.generator import problems_of
from harness.load.arrival_kinds import Arrival, ArrivalKind
from harness.load.lateness import LATE_NS
from harness.load.work import Work

POOL = {ArrivalKind.READ: "reader", ArrivalKind.POST: "poster"}
WAIT_S = 20.0


class Users:
    """Users that do nothing with an arrival but hold it until they are let go."""

    def __init__(self, schedule: list[Arrival], limit: int) -> None:
        self.work = Work(schedule, POOL, limit, self.grow)
        self.let_go = gevent.event.Event()
        self.grown = {"reader": 0, "poster": 0}
        self.greenlets: list[gevent.Greenlet] = []

    def grow(self, name: str, count: int) -> None:
        """More users."""
        self.grown[name] += count
        self.greenlets += [gevent.spawn(self._serve, name) for _ in range(count)]

    def _serve(self, name: str) -> None:
        while True:
            self.work.take(name)
            self.let_go.wait()
            self.work.done(name)

    def dispatch(self, t0_ns: int) -> None:
        """All arrivals; users take what they can."""
        gevent.spawn(self.work.dispatch, t0_ns).get(timeout=WAIT_S)
        wait(lambda: all(pool.busy == pool.users or not pool.waiting for pool in self.work.pools.values()))

    def report(self) -> LoadReport:
        """As the judge sees it."""
        work = self.work
        return LoadReport(
            process="locust-0",
            kind="locust",
            planned=work.planned,
            sent=work.sent,
            late=work.late,
            dropped=work.dropped,
            completed=work.completed,
        )


@pytest.fixture
def users():
    made: list[Users] = []

    def make(count: int, limit: int, kind: ArrivalKind = ArrivalKind.READ) -> Users:
        schedule = [Arrival(due_ns=i * 1000, kind=kind, number=i, actor=i) for i in range(count)]
        made.append(Users(schedule, limit))
        return made[-1]

    yield make
    for one in made:
        gevent.killall(one.greenlets)


def wait(condition: Callable[[], bool]) -> None:
    """Until it holds."""
    until_ns = now_ns() + round(WAIT_S * NS_PER_S)
    while not condition():
        assert now_ns() < until_ns
        gevent.sleep(0.001)


def test_the_pool_grows_with_what_is_due_while_all_are_busy(users):
    one = users(25, limit=100)
    one.dispatch(now_ns())
    assert one.grown == {"reader": 30, "poster": 0}
    assert (one.work.sent, one.work.dropped, one.work.outstanding) == (25, 0, 25)
    one.let_go.set()
    assert one.work.wait_idle(lambda: WAIT_S)
    assert one.work.completed


def test_a_pool_at_its_limit_lets_as_many_wait_and_drops_the_rest(users):
    one = users(100, limit=12)
    one.dispatch(now_ns())
    assert one.grown["reader"] == 12
    assert (one.work.sent, one.work.dropped) == (12, 100 - 12 - 12)
    one.let_go.set()
    assert one.work.wait_idle(lambda: WAIT_S)
    assert one.work.sent + one.work.dropped == one.work.planned
    assert any(said.startswith("locust-0 dropped 76 of 100 arrivals") for said in problems_of(one.report()))


def test_one_class_at_its_limit_costs_another_nothing(users):
    one = users(60, limit=12)
    post = Arrival(due_ns=1 << 20, kind=ArrivalKind.POST, number=0, actor=0)
    one.work.schedule = [*one.work.schedule, post]
    one.work.planned += 1
    one.dispatch(now_ns())
    assert one.work.dropped == 60 - 24
    assert one.work.pools["poster"].busy == 1


def test_who_waited_for_a_free_user_is_late(users):
    one = users(20, limit=10)
    one.dispatch(now_ns())
    assert one.work.sent == 10
    before = one.work.late
    wait(lambda: now_ns() - one.work.t0_ns > LATE_NS + 20 * 1000)
    one.let_go.set()
    assert one.work.wait_idle(lambda: WAIT_S)
    assert (one.work.sent, one.work.late - before, one.work.dropped) == (20, 10, 0)
    assert one.work.max_late_ns > LATE_NS
    assert any("more than 100 ms late" in said for said in problems_of(one.report()))


@pytest.mark.parametrize(("t0_in_s", "late"), [(60, 0), (-60, 10)])
def test_late_is_what_begins_long_after_it_was_due(users, t0_in_s, late):
    """Whoever is behind: the dispatcher itself, here. What is offered ahead of its time is not late."""
    one = users(10, limit=10)
    one.work.t0_ns = now_ns() + t0_in_s * NS_PER_S
    for arrival in one.work.schedule:
        one.work.offer(arrival)
    wait(lambda: one.work.sent == 10)
    assert one.work.late == late
    assert (one.work.max_late_ns >= 60 * NS_PER_S) == bool(late)


def test_what_still_waits_at_the_end_was_never_come_to(users):
    one = users(20, limit=10)
    one.dispatch(now_ns())
    assert not one.work.wait_idle(lambda: 0.0)
    assert one.work.completed
    assert problems_of(one.report())[0] == "locust-0 never came to 10 of 20 planned arrivals"


def test_a_generator_that_keeps_up_has_no_problem(users):
    one = users(50, limit=100)
    one.let_go.set()
    one.dispatch(now_ns() + NS_PER_S // 100)
    assert one.work.wait_idle(lambda: WAIT_S)
    assert (one.work.sent, one.work.dropped) == (50, 0)
    assert [said for said in problems_of(one.report()) if "late" not in said] == []


def test_a_burst_finds_the_users_that_are_free(users):
    """All due at one moment: nobody has had the time to take one, and everybody will."""
    one = users(20, limit=10)
    one.work.t0_ns = now_ns()
    for arrival in one.work.schedule:
        one.work.offer(arrival)
    assert one.work.dropped == 0
    one.work.offer(one.work.schedule[0])
    assert one.work.dropped == 1
