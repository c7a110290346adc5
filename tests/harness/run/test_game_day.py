"""What a game day makes of a scenario, and which phases its faults by hand make."""

import pytest

from chaos.schedule import FaultRow
from harness.core.clock import NS_PER_S
from harness.core.errors import UsageError
from harness.core.random_plan import DrawnKind, RandomPlan
from harness.core.scenario import FaultSpec, Phase, Scenario, Stop
from harness.load.plan import PlanPhase
from harness.run.game_day import as_game_day, game_day_phases, read_game_day

T0_NS = 5_000 * NS_PER_S
PLAYED = [PlanPhase("warmup", -3 * NS_PER_S, 0), PlanPhase("gameday", 0, 100 * NS_PER_S)]


def fault(number: int, start_s: float, end_s: float | None) -> FaultRow:
    def ns(seconds: float) -> int:
        return T0_NS + round(seconds * NS_PER_S)

    return FaultRow(
        id=f"h{number}",
        kind="kill",
        handle="us.cache",
        region=None,
        regions=(),
        params={},
        phase="",
        hold_s=1,
        colour="#000000",
        due_ns=ns(start_s),
        injected_ns=ns(start_s),
        undone_ns=None if end_s is None else ns(end_s),
    )


def phases_of(*faults: FaultRow) -> list[tuple[str, float, float]]:
    phases, _ = game_day_phases(faults, PLAYED, T0_NS)
    assert phases[0] == PLAYED[0]
    return [(p.name, p.start_ns / NS_PER_S, p.end_ns / NS_PER_S) for p in phases[1:]]


def test_without_faults_all_is_baseline():
    assert phases_of() == [("baseline", 0, 100)]


def test_each_fault_makes_a_phase_and_what_follows_is_recovered():
    faults = [fault(2, 50, 61.5), fault(1, 20, 30)]
    assert phases_of(*faults) == [
        ("baseline", 0, 20),
        ("fault-1", 20, 30),
        ("recovered-1", 30, 50),
        ("fault-2", 50, 61.5),
        ("recovered-2", 61.5, 100),
    ]
    assert [(row.id, row.phase) for row in game_day_phases(faults, PLAYED, T0_NS)[1]] == [
        ("h1", "fault-1"),
        ("h2", "fault-2"),
    ]


def test_faults_that_overlap_or_nearly_touch_share_a_phase():
    faults = [fault(1, 20, 30), fault(2, 25, 28), fault(3, 32, 40), fault(4, 43, 45)]
    assert phases_of(*faults) == [
        ("baseline", 0, 20),
        ("fault-1", 20, 40),
        ("recovered-1", 40, 43),
        ("fault-2", 43, 45),
        ("recovered-2", 45, 100),
    ]


def test_a_fault_at_the_very_beginning_or_end():
    assert phases_of(fault(1, 0, 10), fault(2, 90, None)) == [
        ("fault-1", 0, 10),
        ("recovered-1", 10, 90),
        ("fault-2", 90, 100),
    ]


def test_the_load_stays_and_what_is_planned_goes():
    planned = Scenario(
        name="s",
        about="a",
        phases=(Phase(name="storm", duration_s=9, faults=(FaultSpec(kind="kill", handle="a", hold_s=1),)),),
        chaos=RandomPlan(kinds=(DrawnKind(kind="kill"),), handles=("a",), rate_per_s=1),
        stop=Stop(delay_s=2, expressions={"feed_read": ("failures < 20%",), "feed_read{ phase:storm}": ("max <= 1s",)}),
        tolerance={"feed_read{phase:storm}": ("p(95) <= +5%",)},
        expect={
            "feed_read": ("failures == 0",),
            "feed_read{region:us, phase:recovered}": ("failures == 0",),
            "feed_read{phase:storm,region:us}": ("failures == 0",),
            "target:rebuild_seconds": ("p(99) <= 50ms",),
            "invariants": ("all",),
        },
    )
    made = as_game_day(planned, 1800)
    assert made.about == f"A game day: the load of {planned.name}, and faults by hand."
    assert made.phases == (Phase(name="gameday", duration_s=1800),)
    assert made.chaos is None
    assert list(made.expect) == ["feed_read", "feed_read{region:us, phase:recovered}", "invariants"]
    assert (made.population, made.load) == (planned.population, planned.load)
    assert made.stop == Stop(delay_s=2, expressions={"feed_read": ("failures < 20%",)})
    assert made.tolerance == {}


def test_a_target_alone_gets_a_steady_load(tmp_path):
    request = read_game_day(None, "reference", ("load.reads=7/s",), 3, tmp_path, 60)
    assert request.is_game_day
    assert (request.scenario.name, request.scenario.seed, request.scenario.load.reads_per_s) == ("steady-load", 3, 7)
    assert not request.plans_faults


def test_links_inside_the_target_get_a_proxy_when_asked_for(tmp_path):
    link = "us-east.api-to-memcached"
    request = read_game_day(None, "reference", (), None, tmp_path, 60, proxies=(link,))
    assert request.profile.start.command[-2:] == ["--proxy", link]
    assert link in request.profile.start.handles
    with pytest.raises(UsageError, match=r"--proxy: unknown link 'us-east.api-to-memcache' \(did you mean"):
        read_game_day(None, "reference", (), None, tmp_path, 60, proxies=("us-east.api-to-memcache",))


def test_problems_of_scenario_and_target_are_told_together(tmp_path):
    with pytest.raises(UsageError) as raised:
        read_game_day("celebrity-cache-kil", "refrence", (), None, tmp_path, 60)
    assert len(raised.value.problems) == 2
