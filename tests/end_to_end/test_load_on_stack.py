"""Arrivals of every shape, of traces and of the sign-up curve on the reference stack, by one load process and by four.

What is due is compared with the shapes' own formulas, written down here once more; what was done with what is due.
"""

from __future__ import annotations

import json
import math
import subprocess
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asked_ops import asked_by, asked_in, check_who
from shared_runs import ops_of, t0_of
from small_runs import ROOT, checks, command, phase

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.errors import ExitCode
from harness.core.op import Op, OpKind, OpOutcome
from harness.judge.case import LoadReport
from harness.load.plan import LoadPlan, read_plan
from harness.load.schedule import arrivals
from harness.record.histograms import new_histogram, summarise
from harness.record.run_directory import RunDirectory

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.nightly, pytest.mark.timeout(300)]

SECONDS = 20
SHAPES = """
name = "shapes"
about = "Every shape of a rate, and a trace."
warmup = "2s"
[population]
users = 1_300
mean_follows = 10
celebrities = [120]
listeners = 60
history = 10
panel = 40
[load]
reads = { shape = "spike", base = "16/s", peak = "80/s", at = "8s", for = "4s", spacing = "even" }
posts = { shape = "constant", rate = "12/s" }
celebrity_posts = { shape = "sine", mean = "2/s", amplitude = "2/s", period = "10s" }
signups = { shape = "ramp", from = "0/s", to = "8/s", at = "2s", over = "16s", spacing = "even" }
likes = "1/s"
edges = "2/s"
deletes = "1/s"
hides = "0.5/s"
moderations = "0.5/s"
repeats = "1/s"
replies = "1/s"
trace = "evening.csv"
[expect]
"feed_read" = ["failures == 0"]
"post_accept" = ["failures == 0"]
"signup" = ["failures == 0"]
"invariants" = ["durability", "no_phantom", "no_duplicates", "order", "read_your_writes", "sse_completeness"]
"""
TRACED_S = tuple(0.2603 + 0.5 * number for number in range(30))
"""in the trace, reads and posts by turns; nothing else is due then"""

CURVE = """
name = "curve"
about = "Everybody signs up, while one api stands still and a recorded crowd asks it."
warmup = "1s"
[population]
users = 400
mean_follows = 10
panel = 20
joined = "none"
[load]
signup_curve = true
trace = "crowd.jsonl"
[expect]
"invariants" = ["order"]
"""
CROWD, CROWD_AT_S, STILL_S = 1_000, 6.0, 4.0
"""reads within a second, at an api that answers nothing for a while: more than wait at the users that there may be"""
JOINED = {1.25: 0.01, 2: 0.02, 4: 0.05, 7: 0.1, 16: 0.3, 25: 0.49, 40: 0.7, 41: 0.71, 46: 0.75, 102: 1.0}
"""hours since the launch -> share of all who will ever join: the publicly reported milestones"""
HOURS = 102


def run(scenario: Path, out: Path, *words: str) -> int:
    """Exit code of the run."""
    with out.with_suffix(".txt").open("w") as told:
        line = command("run", scenario, "--out", out, *words)
        return subprocess.run(line, cwd=ROOT, stdout=told, stderr=told, timeout=200, check=False).returncode


@dataclass(frozen=True)
class Ran:
    """What a run left."""

    plan: LoadPlan
    t0_ns: int
    ops: list[Op]
    reports: list[LoadReport]

    def due_s(self, is_meant: Callable[[Op], bool]) -> list[float]:
        """When ops were due, seconds from t0."""
        return sorted((op.due_ns - self.t0_ns) / NS_PER_S for op in self.ops if is_meant(op))


def left_by(out: Path) -> Ran:
    lines = RunDirectory(out).generator.read_bytes().splitlines()
    reports = [msgspec.json.decode(line, type=LoadReport) for line in lines]
    locust = [report for report in reports if report.kind == "locust"]
    return Ran(read_plan(out / "plan.json"), t0_of(out), ops_of(out), locust)


def write_shapes(folder: Path) -> Path:
    lines = [f"{at},{'post' if number % 2 else 'read'},{number}" for number, at in enumerate(TRACED_S)]
    (folder / "evening.csv").write_text("\n".join(["time_s,kind,actor", *lines]))
    path = folder / "shapes.toml"
    path.write_text(SHAPES + phase("all", SECONDS))
    return path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run of the shapes by one Locust process, and by four."""
    folder = tmp_path_factory.mktemp("shapes")
    scenario = write_shapes(folder)
    made = {}
    for workers in ("1", "4"):
        made[workers] = folder / f"by-{workers}"
        code = run(scenario, made[workers], "--workers", workers)
        assert code == ExitCode.PASS, made[workers].with_suffix(".txt").read_text()
    return made


def test_four_processes_do_what_one_does(both: dict[str, Path]) -> None:
    ran = [left_by(both[workers]) for workers in ("1", "4")]
    wanted = asked_by(ran[0].plan)
    assert {kind for kind, *_ in wanted} >= {"feed", "post", "signup", "follow", "delete", "hide", "moderate"}
    for one, workers in zip(ran, (1, 4), strict=True):
        found = asked_in(one.ops, one.t0_ns)
        assert set(found) == set(wanted)
        check_who(one.plan, found, wanted, one.ops)
        assert len(one.reports) == workers
        assert len({op.id >> 38 for op in one.ops if op.kind is OpKind.FEED}) == workers
        assert sum(report.planned for report in one.reports) == len(arrivals(one.plan))
        assert all(report.planned == report.sent + report.skipped for report in one.reports)


RISES: dict[str, tuple[Callable[[Op], bool], Callable[[float], float]]] = {
    "spike": (lambda op: op.kind is OpKind.FEED, lambda s: 16 * s + (80 - 16) * min(max(s - 8, 0), 4)),
    "sine": (lambda op: op.celebrity, lambda s: 2 * s + 2 * 10 / (2 * math.pi) * (1 - math.cos(2 * math.pi * s / 10))),
    "ramp": (
        lambda op: op.kind is OpKind.SIGNUP,
        lambda s: 8 / (2 * 16) * min(max(s - 2, 0), 16) ** 2 + 8 * max(s - 18, 0),
    ),
}
"""shape -> whose it is, and how many arrivals of it are owed by then, from the first phase on"""


@pytest.mark.parametrize("workers", ["1", "4"])
def test_as_many_came_each_second_as_the_shapes_say(both: dict[str, Path], workers: str) -> None:
    ran = left_by(both[workers])
    traced_ns = {round(at * NS_PER_S) for at in TRACED_S}
    assert traced_ns < {op.due_ns - ran.t0_ns for op in ran.ops}
    for shape, (is_meant, owed) in RISES.items():
        came = ran.due_s(lambda op, is_meant=is_meant: is_meant(op) and op.due_ns - ran.t0_ns not in traced_ns)
        for second in range(SECONDS):
            count = bisect_left(came, second + 1) - bisect_left(came, second)
            assert abs(count - (owed(second + 1) - owed(second))) <= 1, f"{shape}, second {second}: {count}"
    posts = {op.idempotency_key: op.due_ns - ran.t0_ns for op in ran.ops if "-post-" in op.idempotency_key}
    drawn = sum(at >= 0 for at in posts.values() if at not in traced_ns)
    assert abs(drawn - 12 * SECONDS) <= 5 * math.sqrt(12 * SECONDS), "Poisson: 5 standard deviations"


@pytest.mark.parametrize("workers", ["1", "4"])
def test_histograms_of_all_processes_add_up_to_the_rows(both: dict[str, Path], workers: str) -> None:
    ran = left_by(both[workers])
    ends = [phase.end_ns for phase in ran.plan.phases]
    names = [phase.name for phase in ran.plan.phases]
    kinds = {OpKind.FEED, OpKind.POST, OpKind.SIGNUP, OpKind.LIKE, OpKind.DELETE, OpKind.HIDE, OpKind.FOLLOW}
    of_rows: dict[str, Any] = defaultdict(new_histogram)
    for op in ran.ops:
        if op.kind in kinds and op.outcome is OpOutcome.OK:
            at = min(bisect_right(ends, op.due_ns - ran.t0_ns), len(names) - 1)
            of_rows[f"{op.kind}|{op.region}|{names[at]}"].record_value((op.done_ns - op.due_ns + 500) // 1000)
    merged = json.loads((both[workers] / "histograms" / "merged.json").read_bytes())
    assert len(list((both[workers] / "histograms").glob("locust-*.hlog"))) == int(workers)
    told = {key: value for key, value in merged.items() if key.partition("|")[0] in kinds}
    assert told == json.loads(msgspec.json.encode({key: summarise(made) for key, made in of_rows.items()}))


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everybody signs up; in the middle one api stands still while a recorded crowd asks it."""
    folder = tmp_path_factory.mktemp("curve")
    lines: list[dict[str, Any]] = [
        {"time_s": CROWD_AT_S + number / CROWD, "kind": "read", "region": "us-east", "limit": 7}
        for number in range(CROWD)
    ]
    lines += [{"time_s": 1.5 + number, "kind": "read", "actor": 77, "region": "ap-tokyo"} for number in range(3)]
    lines += [{"time_s": 60, "kind": "read"}]
    (folder / "crowd.jsonl").write_text("\n".join(map(json.dumps, lines)))
    still = f'{{ kind = "pause", handle = "us-east.api", at = "{CROWD_AT_S - 0.5}s", hold = "{STILL_S}s" }}'
    scenario = folder / "curve.toml"
    scenario.write_text(CURVE + phase("joining", SECONDS, still))
    code = run(scenario, folder / "run")
    assert code == ExitCode.INCONCLUSIVE, (folder / "run.txt").read_text()
    return folder / "run"


def test_people_join_on_the_curve(curve: Path) -> None:
    ran = left_by(curve)
    joined = ran.due_s(lambda op: op.kind is OpKind.SIGNUP)
    users = len(joined)
    assert users == ran.plan.users - len(ran.plan.panel)
    for hours, share in JOINED.items():
        by_then = bisect_right(joined, SECONDS * hours / HOURS)
        assert abs(by_then - share * users) <= 1, f"{by_then} of {users} after {hours} h"


def test_what_the_crowd_asked_too_much_is_counted_late_or_dropped_and_told(curve: Path) -> None:
    ran = left_by(curve)
    [report] = ran.reports
    asked = Counter(op.due_ns - ran.t0_ns for op in ran.ops if op.limit == 7)
    due = [round((CROWD_AT_S + number / CROWD) * NS_PER_S) for number in range(CROWD)]
    assert set(asked) < set(due)
    assert max(asked.values()) == 1, "none is done twice"
    assert {op.region for op in ran.ops if op.limit == 7} == {"us-east"}
    actor = [op for op in ran.ops if op.kind is OpKind.FEED and op.limit == 50 and op.region == "ap-tokyo"]
    assert len({op.user for op in actor if op.due_ns - ran.t0_ns < 4 * NS_PER_S}) == 1
    assert report.dropped == CROWD - len(asked) > 0
    assert report.planned == len(arrivals(ran.plan)) == report.sent + report.dropped + report.skipped
    sent_late = sum(op.sent_ns - op.due_ns > 100 * NS_PER_MS for op in ran.ops if op.limit == 7)
    assert 0 < report.late <= sent_late
    [check] = checks(curve, "generator")
    assert check["verdict"] == "inconclusive"
    dropped = f"locust-0 dropped {report.dropped:,} of {report.planned:,} arrivals"
    assert dropped in check["reason"]
    left_out = f"1 of the {CROWD + 4:,} arrivals of load.trace: they come after the end of the run"
    assert left_out in check["reason"]
    page = (curve / "report.html").read_text()
    for figure in (report.planned, report.sent, report.late, report.dropped):
        assert f'<td class="n">{figure:,}</td>' in page
