"""The panel of a game day: which expectations it shows at which time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from chaos.schedule import FaultRow
from harness.cli.watching import Rates, live_state
from harness.core.clock import NS_PER_S, now_ns
from harness.judge.expressions import parse_slos
from harness.record.run_directory import RunDirectory
from harness.run.by_hand import ByHand
from harness.run.execute import Progress
from harness.run.load_processes import LoadProcess, LoadProcesses, Pipe

EXPECT = {
    "feed_read": ["failures < 90%"],
    "feed_read{phase:baseline}": ["p(99) <= 200ms"],
    "feed_read{phase:fault}": ["p(99) <= 5s"],
    "feed_read{phase:recovered}": ["p(99) <= 300ms"],
}
SLOW = {"seconds": 5.0, "ops": {"feed": {"us": {"ok": 50, "failed": 0, "us": [900_000] * 50}}}}


def fault(undone_s_ago: float | None) -> FaultRow:
    now = now_ns()
    words: dict[str, Any] = {"id": "h1", "kind": "kill", "handle": "us.cache", "region": None, "regions": (),
                             "params": {}, "phase": "", "hold_s": 1, "colour": "#000000"}  # fmt: skip
    undone_ns = None if undone_s_ago is None else now - round(undone_s_ago * NS_PER_S)
    return FaultRow(**words, due_ns=now - 60 * NS_PER_S, injected_ns=now - 60 * NS_PER_S, undone_ns=undone_ns)


@pytest.mark.parametrize(
    ("undone_s_ago", "shown"),
    [
        ([], {"failures < 90%": True, "p(99) <= 200ms": False}),
        ([None], {"failures < 90%": True, "p(99) <= 5s": True}),
        ([30, None], {"failures < 90%": True, "p(99) <= 5s": True}),
        ([1], {"failures < 90%": True}),  # the last seconds are of both kinds
        ([30], {"failures < 90%": True, "p(99) <= 300ms": False}),
    ],
    ids=["before", "during", "during the second", "just after", "after"],
)
def test_an_expectation_of_a_kind_of_phase_is_shown_in_it_alone(tmp_path, undone_s_ago, shown):
    run = RunDirectory(tmp_path / "run").create()
    process: Any = SimpleNamespace(returncode=None, stdout=None)
    member = LoadProcess("locust-0", "locust", Pipe(process), tmp_path / "log", {"state": "running", "recent": SLOW})
    scenario, profile = SimpleNamespace(name="day", duration_s=60.0), SimpleNamespace(name="reference")
    request: Any = SimpleNamespace(scenario=scenario, profile=profile, is_game_day=True)
    plan: Any = SimpleNamespace(listeners=(), phases=())
    slos, _ = parse_slos("expect", EXPECT, {})
    by_hand = ByHand(run)
    by_hand.rows = [fault(ago) for ago in undone_s_ago]
    progress = Progress(request, run, "running", plan, now_ns(), LoadProcesses([member]), by_hand=by_hand, slos=slos)
    lines = live_state(progress, Rates()).slos
    assert {line.name.removeprefix("feed_read "): line.holds for line in lines} == shown
