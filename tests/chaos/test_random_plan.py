"""Any seed gives a plan within its limits, and the same seed the same plan."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaos.guard import validate_phases
from chaos.handles import matching
from chaos.random_plan import fit_problems, plan_problems, with_random_faults
from harness.core.random_plan import DrawnKind, Hold, RandomPlan
from harness.core.scenario import FaultSpec, Phase


def process(**fields: Any) -> dict[str, Any]:
    return {"backend": "process", "pid_file": "/x/pid", "ready": "tcp://127.0.0.1:1", **fields}


def proxied(name: str) -> dict[str, Any]:
    return {"backend": "toxiproxy", "api": "http://127.0.0.1:2", "proxy": name}


HANDLES = {
    "us.cache": process(hold_file="/x/hold", memcached=["127.0.0.1:1"]),
    "us.api": process(hold_file="/x/hold"),
    "ap.api": process(hold_file="/x/hold"),
    "us.jobs": process(),
    "link.us.ap": proxied("us--ap"),
    "link.ap.us": proxied("ap--us"),
    "far": process(memcached=["10.0.0.7:11211"]),
}
FATAL = [["*.api"], ["us.cache", "us.jobs"]]
LATENCY = DrawnKind(kind="latency", params={"latency": "400ms"})
KINDS = [DrawnKind(kind=name) for name in ("kill", "pause", "cache-flush", "partition")] + [LATENCY]
PHASES = (
    Phase(name="baseline", duration_s=10),
    Phase(name="storm", duration_s=40, faults=(FaultSpec(kind="pause", handle="us.api", at_s=5, hold_s=10),)),
    Phase(name="second", duration_s=30),
)


def plan(**fields: Any) -> RandomPlan:
    return RandomPlan(**{"kinds": (DrawnKind(kind="kill"),), "handles": ("us.*",), "rate_per_s": 0.1, **fields})


def drawn(plan: RandomPlan, seed: int = 0) -> list[tuple[float, Phase, FaultSpec]]:
    """(time from the first phase, phase, fault) of what was added."""
    found, start_s = [], 0.0
    for before, after in zip(PHASES, with_random_faults(plan, PHASES, HANDLES, FATAL, seed), strict=True):
        assert after.faults[: len(before.faults)] == before.faults
        found += [(start_s + spec.at_s, after, spec) for spec in after.faults[len(before.faults) :]]
        start_s += after.duration_s
    return found


@st.composite
def plans(draw: st.DrawFn) -> RandomPlan:
    shortest = draw(st.floats(0.5, 10))
    return plan(
        kinds=tuple(draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4, unique_by=lambda k: k.kind))),
        handles=tuple(draw(st.lists(st.sampled_from(["us.*", "*.api", "link.*", "far", "us.cache"]), min_size=1))),
        rate_per_s=draw(st.floats(0.005, 2)),
        hold=Hold(shortest, shortest + draw(st.floats(0, 30))),
        overlap=draw(st.integers(1, 4)),
        settle_s=draw(st.floats(0.1, 5)),
    )


@settings(max_examples=300, deadline=None)
@given(plan=plans(), seed=st.integers(0, 2**32))
def test_any_seed_gives_a_plan_within_its_limits(plan: RandomPlan, seed: int) -> None:
    faults = drawn(plan, seed)
    for _, phase, spec in faults:
        assert phase.name != "baseline"
        assert plan.hold.shortest_s <= spec.hold_s <= plan.hold.longest_s
        assert spec.at_s >= 0
        assert spec.at_s + spec.hold_s + plan.settle_s <= phase.duration_s + 0.001
        assert spec.handle in {name for pattern in plan.handles for name in matching(pattern, HANDLES)}
        assert next(kind.params for kind in plan.kinds if kind.kind == spec.kind) == spec.params
    assert len(faults) <= max(1, round(plan.rate_per_s * 70))
    played = with_random_faults(plan, PHASES, HANDLES, FATAL, seed)
    assert validate_phases(played, HANDLES) == []
    assert_disjoint(plan, faults)


def assert_disjoint(plan: RandomPlan, faults: list[tuple[float, Phase, FaultSpec]]) -> None:
    """One fault a handle, no fatal pair, no more at once than allowed, the scenario's own included."""
    windows = [(at, at + spec.hold_s + plan.settle_s, spec.handle) for at, _, spec in faults]
    windows.append((15.0, 25.0 + plan.settle_s, "us.api"))
    for (a_start, a_end, a), (b_start, b_end, b) in combinations(windows, 2):
        if a_start < b_end and b_start < a_end:
            assert a != b
            assert not {a, b} <= {"us.api", "ap.api"}
            assert not {a, b} <= {"us.cache", "us.jobs"}
    for moment, _, _ in windows:
        assert sum(start <= moment < end for start, end, _ in windows) <= plan.overlap


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20)
def test_the_same_seed_gives_the_same_plan(seed: int) -> None:
    one = plan(kinds=tuple(KINDS), handles=("*",), rate_per_s=0.2, overlap=3)
    assert drawn(one, seed) == drawn(one, seed)


def test_seeds_differ_and_a_plan_may_have_its_own() -> None:
    several = {tuple(at for at, _, _ in drawn(plan(), seed)) for seed in range(20)}
    assert len(several) > 15
    assert drawn(plan(seed=7), 1) == drawn(plan(seed=7), 2) == drawn(plan(), 7)


def test_the_rate_says_how_many() -> None:
    wanted = plan(kinds=tuple(KINDS), handles=("*",), rate_per_s=6 / 60, overlap=4, hold=Hold(1, 2), settle_s=0.5)
    counts = Counter(len(drawn(wanted, seed)) for seed in range(50))
    assert set(counts) == {7}  # 6 a minute in the 70 s of two phases


def test_every_kind_is_drawn_on_every_handle_that_fits_it() -> None:
    wanted = plan(kinds=(KINDS[0], LATENCY), handles=("us.*", "link.*"), rate_per_s=0.2, overlap=4, hold=Hold(1, 2))
    pairs = {(spec.kind, spec.handle) for seed in range(60) for _, _, spec in drawn(wanted, seed)}
    assert pairs == {("kill", "us.api"), ("kill", "us.cache"), ("latency", "link.ap.us"), ("latency", "link.us.ap")}


def test_only_the_named_phases_are_struck() -> None:
    faults = drawn(plan(phases=("second",), rate_per_s=0.2))
    assert faults
    assert {phase.name for _, phase, _ in faults} == {"second"}


def test_where_there_is_one_phase_it_is_struck() -> None:
    [phase] = with_random_faults(plan(), PHASES[:1], HANDLES)
    assert len(phase.faults) == 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"kinds": (DrawnKind(kind="kil"),)}, "chaos.kinds[0]: unknown fault kind 'kil' (did you mean 'kill'?)"),
        ({"kinds": (DrawnKind(kind="latency"),)}, "chaos.kinds[0].latency: is required by latency"),
        ({"handles": ("us.api", "us.cach")}, "chaos.handles[1]: no handle is called 'us.cach' (did you mean 'us.c"),
        ({"phases": ("strom",)}, "chaos.phases: no phase 'strom' (did you mean 'storm'?)"),
        ({"hold": Hold(29, 60)}, "chaos.hold: 29s and 2s to settle do not fit into phase second (30s)"),
    ],
)
def test_each_problem_of_a_plan_is_named(fields: dict[str, Any], problem: str) -> None:
    found = plan_problems(plan(**fields), PHASES, HANDLES)
    assert any(problem in one for one in found), found


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"kinds": (DrawnKind(kind="kill"), LATENCY)}, "chaos.kinds[1]: latency fits none of the plan's handles"),
        ({"handles": ("us.*", "link.*")}, "chaos.handles[1]: link.ap.us: kill needs a process handle, this is a toxi"),
        ({"kinds": (KINDS[2],), "handles": ("us.cache", "far")}, "address '10.0.0.7' is not on this machine"),
    ],
)
def test_kinds_and_handles_must_come_to_something(fields: dict[str, Any], problem: str) -> None:
    found = fit_problems(plan(**fields), HANDLES)
    assert any(problem in one for one in found), found


def test_a_sound_plan_has_no_problems() -> None:
    sound = plan(kinds=(*KINDS,), handles=("us.*", "link.*"))
    assert plan_problems(sound, PHASES, HANDLES) == fit_problems(sound, HANDLES) == []
