"""What a load process says of its last seconds: nothing from before load began, and no more than fits into a line; and
the phase of each op."""

import msgspec

from harness.core.clock import NS_PER_MS, NS_PER_S, now_ns
from harness.core.op import OP_METRICS, Op, OpKind, OpOutcome
from harness.load.plan import PlanPhase
from harness.load.recorder import MOST_IN_ALL, MOST_SAMPLES, Recent, Recorder
from harness.run.child import LINE_LIMIT_BYTES

NO_WARMUP = (PlanPhase("warmup", 0, 0), PlanPhase("baseline", 0, 9 * NS_PER_S))


def op(due_ns: int, kind: OpKind = OpKind.FEED, region: str = "here", took_ns: int = NS_PER_MS) -> Op:
    return Op(
        id=0,
        session="s",
        user=1,
        kind=kind,
        region=region,
        due_ns=due_ns,
        sent_ns=due_ns,
        done_ns=due_ns + took_ns,
        outcome=OpOutcome.OK,
    )


def test_what_is_recent_begins_with_the_first_arrival(make_plan_of) -> None:
    recorder = Recorder(make_plan_of(phases=NO_WARMUP), "locust-0")
    recorder.record(op(now_ns()))
    recorder.tick()
    t0_ns = now_ns()
    recorder.start(t0_ns)
    recorder.record(op(t0_ns))
    recent = recorder.recent_status()
    assert 0 < recent["seconds"] <= (now_ns() - t0_ns) / NS_PER_S
    assert recent["ops"]["feed"]["here"]["ok"] == 1
    recorder.tick()
    assert 0 < recorder.recent_status()["seconds"] <= (now_ns() - t0_ns) / NS_PER_S
    recorder.close()


def test_before_load_begins_no_time_passes(make_plan_of) -> None:
    plan = make_plan_of()
    recorder = Recorder(plan, "locust-0")
    recorder.start(now_ns() + NS_PER_S - plan.phases[0].start_ns)
    recorder.tick()
    assert recorder.recent_status()["seconds"] == 0
    recorder.close()


def test_the_warm_up_is_load(make_plan_of) -> None:
    plan = make_plan_of()
    recorder = Recorder(plan, "locust-0")
    recorder.start(now_ns() - plan.phases[0].start_ns)
    assert recorder.recent_status()["seconds"] > 0
    recorder.close()


def test_what_is_due_before_all_phases_or_after_them_is_of_the_first_or_the_last(make_plan_of) -> None:
    bounds = (("warmup", -5, 0), ("baseline", 0, 15), ("fault", 15, 35))
    phases = tuple(PlanPhase(name, start * NS_PER_S, end * NS_PER_S) for name, start, end in bounds)
    recorder = Recorder(make_plan_of(phases=phases), "locust-0")
    recorder.start(7)
    names = [recorder.phase(7 + s * NS_PER_S) for s in (-9, -1, 0, 14, 15, 99)]
    assert names == ["warmup", "warmup", "baseline", "baseline", "fault", "fault"]
    recorder.close()


def busy(kinds: list[OpKind], regions: int, each: int) -> Recent:
    """So many ops of each kind in each region, all of them slow."""
    recent = Recent()
    for region in range(regions):
        for kind in kinds:
            slow = op(0, kind, f"region-{region}", took_ns=100 * NS_PER_S - 1)
            for _ in range(each):
                recent.add(slow)
    return recent


def test_all_kinds_of_ops_in_many_regions_fit_into_a_line() -> None:
    kinds = [OpKind(kind) for kind in OP_METRICS]
    told = busy(kinds, 10, 1 + MOST_SAMPLES // 2).status()
    samples = [len(ended["us"]) for of_kind in told["ops"].values() for ended in of_kind.values()]
    assert len(samples) == 10 * len(kinds)
    assert min(samples) >= 100
    assert sum(samples) <= MOST_IN_ALL
    assert len(msgspec.json.encode(told)) < LINE_LIMIT_BYTES / 2


def test_a_few_of_them_are_told_in_full() -> None:
    told = busy([OpKind.FEED, OpKind.POST], 2, MOST_SAMPLES).status()
    assert {len(ended["us"]) for of_kind in told["ops"].values() for ended in of_kind.values()} == {MOST_SAMPLES}
