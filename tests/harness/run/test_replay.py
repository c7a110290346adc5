"""Recorded faults are played again at the same times, where the phases let them."""

from pathlib import Path

import msgspec
import pytest

from chaos.kind import Witness
from chaos.schedule import FaultRow, Undone
from harness.core.clock import NS_PER_S
from harness.core.errors import UsageError
from harness.core.scenario import FaultSpec, Phase, Scenario
from harness.record.run_directory import RunDirectory
from harness.run.replay import replayed

T0_S = 1000.0
OWN = FaultSpec(kind="pause", handle="us.api", hold_s=2)
SCENARIO = Scenario(
    name="s",
    about="a",
    phases=(Phase(name="calm", duration_s=10), Phase(name="storm", duration_s=20, faults=(OWN,))),
)


def ns(seconds: float) -> int:
    return round((T0_S + seconds) * NS_PER_S)


def row(number: int, at_s: float, hold_s: float, phase: str = "storm", late_s: float = 0.004, **fields) -> FaultRow:
    began = ns(at_s + late_s)
    plain = {
        "id": f"f{number}",
        "kind": "kill",
        "handle": "us.cache",
        "region": "us",
        "regions": ("us",),
        "params": {},
        "phase": phase,
        "hold_s": hold_s,
        "colour": "#000000",
        "due_ns": ns(at_s),
        "injected_ns": began,
        "undo_started_ns": began + round(hold_s * NS_PER_S),
        "undone_ns": began + round((hold_s + 1) * NS_PER_S),
        "witness": Witness(True, "gone"),
        "undo": Undone(ok=True),
    }
    return FaultRow(**{**plain, **fields})


@pytest.fixture
def recorded(tmp_path):
    def record(*rows: FaultRow) -> Path:
        run = RunDirectory(tmp_path / "old").create()
        run.faults.write_bytes(b"".join(msgspec.json.encode(r) + b"\n" for r in rows))
        phases = [("warmup", -3.0, 0.0), ("calm", 0.0, 10.0), ("storm", 10.0, 30.0)]
        run.phases.write_bytes(
            msgspec.json.encode([{"name": n, "start_ns": ns(a), "end_ns": ns(b)} for n, a, b in phases])
        )
        return run.path

    return record


def problems_of(path: Path, scenario: Scenario = SCENARIO) -> list[str]:
    with pytest.raises(UsageError) as raised:
        replayed(scenario, path)
    return raised.value.problems


def test_faults_come_at_the_times_they_were_due_and_in_place_of_the_scenarios_own(recorded):
    path = recorded(row(1, 11, 5), row(2, 3.5, 2, "calm", kind="latency", params={"latency": "400ms"}))
    calm, storm = replayed(SCENARIO, path).phases
    assert storm.faults == (FaultSpec(kind="kill", handle="us.cache", hold_s=5, at_s=1),)
    assert calm.faults == (
        FaultSpec(kind="latency", handle="us.cache", hold_s=2, at_s=3.5, params={"latency": "400ms"}),
    )


def test_a_replay_of_a_replay_does_not_drift(recorded):
    once = replayed(SCENARIO, recorded(row(1, 11, 5)))
    again = replayed(SCENARIO, recorded(row(1, 11, 5, late_s=0.09)))
    assert once == again


def test_what_began_late_comes_late_and_what_was_undone_early_is_held_no_longer(recorded):
    cut = row(1, 11, 5, late_s=1.25, undo_started_ns=ns(14.25))
    [spec] = replayed(SCENARIO, recorded(cut)).phases[1].faults
    assert (spec.at_s, spec.hold_s) == (2.25, 2.0)


def test_what_was_never_injected_is_not_played(recorded):
    path = recorded(row(1, 11, 5), row(2, 18, 5, inject_error="not running"))
    assert len(replayed(SCENARIO, path).phases[1].faults) == 1
    assert "no fault was injected" in problems_of(recorded(row(2, 18, 5, inject_error="not running")))[0]


def test_each_fault_that_does_not_fit_is_told(recorded):
    path = recorded(row(1, 26, 5), row(2, 8, 5, "calm"), row(3, 40, 1, "late"), row(4, 2, 1))
    assert [problem.partition(": ")[2] for problem in problems_of(path)] == [
        "f1 (kill on us.cache) begins at 26 s and is held for 5 s, but phase storm ends at 30 s "
        "(--set phase.storm.duration=21s)",
        "f2 (kill on us.cache) begins at 8 s and is held for 5 s, but phase calm ends at 10 s "
        "(--set phase.calm.duration=13s)",
        "f3 (kill on us.cache) begins at 40 s and is held for 1 s, outside of the phases, which end at 30 s",
        "f4 (kill on us.cache) begins at 2 s and is held for 1 s, which is in phase calm; "
        "it was recorded in phase storm",
    ]


def test_a_recording_from_phases_of_other_names_fits_by_its_times(recorded):
    assert replayed(SCENARIO, recorded(row(1, 12, 5, "fault-1"))).phases[1].faults[0].at_s == 2


def test_a_run_without_phases_cannot_be_replayed(tmp_path):
    run = RunDirectory(tmp_path / "old").create()
    run.faults.write_bytes(msgspec.json.encode(row(1, 1, 1)))
    assert "its phases cannot be read" in problems_of(run.path)[0]
