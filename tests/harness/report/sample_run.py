# ruff: noqa: E501
"""A run directory as the judge leaves it, with realistic numbers: celebrity-cache-kill, 60 s, two regions.

`python tests/harness/report/sample_run.py FOLDER [pass|fail|inconclusive]` writes one with its reports, to look at.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from harness.core.verdict import Check, CheckKind, MachinePhase, Outcome, Verdict
from harness.judge.staleness import StalenessCurve, StalenessPoint
from harness.record.noise_file import Echo, NoiseRow
from harness.record.run_directory import RunDirectory

NS = 1_000_000_000
T0 = 5_000 * NS
PHASES = (("warmup", -5, 0, "warmup"), ("baseline", 0, 20, "baseline"), ("cache-down", 20, 40, "fault"))
PHASES += (("recovered", 40, 60, "recovered"),)
LADDER = (0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100)
Random = np.random.Generator
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'"


def make_run(folder: Path, verdict: str = "fail", evil: str = "") -> RunDirectory:
    """Write everything the reports read. `evil` is text put wherever text can come from outside."""
    run = RunDirectory(folder).create()
    random = np.random.default_rng(7)
    write(run.verdict, sample_verdict(verdict, evil))
    write(
        run.scenario,
        {"name": "celebrity-cache-kill", "about": f"A celebrity posts while one region loses its cache.{evil}"},
    )
    write(run.manifest, manifest(verdict, evil))
    write(run.phases, [{"name": n, "start_ns": T0 + a * NS, "end_ns": T0 + b * NS, "kind": k} for n, a, b, k in PHASES])
    run.faults.write_bytes(msgspec.json.encode(fault(evil)) + b"\n")
    run.generator.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in generator(evil)))
    run.noise.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in noise(random)))
    write(run.series, series(random))
    write(run.histograms / "merged.json", histograms(random))
    return run


def write(path: Path, value: Any) -> None:
    path.write_bytes(msgspec.json.encode(value))


def check(kind: CheckKind, name: str, phase: str, value: float | None, bound: float | None, unit: str, n: int) -> Check:
    return Check(
        name=name, kind=kind, verdict=Outcome.PASS, phase=phase, value=value, bound=bound, unit=unit, observations=n
    )


def sample_verdict(outcome: str, evil: str) -> Verdict:
    checks = []
    local = "post_to_event{scope:local,author:ordinary}"
    for phase, values in (("baseline", (41, 92, 188)), ("cache-down", (44, 118, 402)), ("recovered", (40, 95, 201))):
        for value, rule, bound in zip(
            values, ("p(50) <= 150ms", "p(95) <= 200ms", "max <= 500ms"), (150, 200, 500), strict=True
        ):
            checks.append(check(CheckKind.SLO, f"{local} {rule}", phase, value, bound, "ms", 41_203))
        checks.append(check(CheckKind.SLO, "post_to_event{author:celebrity} max <= 5s", phase, 1.842, 5, "s", 20_310))
        checks.append(check(CheckKind.SLO, "feed_read failures == 0", phase, 0, 0, "", 3_412))
        checks.append(check(CheckKind.SLO, "feed_read p(99) <= 200ms", phase, 61.4, 200, "ms", 3_412))
    for name, n in (
        ("durability", 4_812), ("no phantom", 191_220), ("no duplicates", 9_214), ("order", 9_214),
        ("read your writes", 811), ("monotonic reads", 7_702), ("visibility", 2_310), ("cross region", 48_012),
        ("convergence", 400), ("cursor completeness", 1_204), ("SSE soundness", 201_112), ("SSE completeness", 201_340),
    ):  # fmt: skip
        checks.append(check(CheckKind.INVARIANT, name, "", 0, 0, "violations", n))
    checks.append(check(CheckKind.RECOVERY, "recovery", "cache-down", 2.0, 10, "s", 28))
    checks.append(check(CheckKind.WITNESS, "witness kill us-east.memcached", "cache-down", None, None, "", 1))
    checks.append(check(CheckKind.GENERATOR, "late arrivals", "", 0.0021, 0.01, "share", 12_640))
    skipped = check(CheckKind.INVARIANT, "cursor integrity", "", None, None, "", 0)
    skipped.skipped, skipped.reason = True, f"skipped: target lacks signed cursors{evil}"
    checks.append(skipped)
    if outcome == "fail":
        _break(checks, evil)
    if outcome in ("fail", "inconclusive"):
        lag = next(c for c in checks if c.name == "late arrivals")
        lag.verdict, lag.value = Outcome.INCONCLUSIVE, 0.031
        lag.reason = f"the generator was saturated: 3.1 % of arrivals started more than 100 ms late{evil}"
    counts = {
        "ops": {"feed": 10_236, "post": 2_418, "feed_new": 20_441, "event": 201_340},
        "violations": 3,
        "note": evil,
    }
    return Verdict(
        verdict=Outcome(outcome),
        scenario=f"celebrity-cache-kill{evil}",
        seed=42,
        checks=checks,
        counts=counts if outcome == "fail" else {},
        machine=machine() if outcome != "pass" else [],
    )


def machine() -> list[MachinePhase]:
    calm = {"echoes": 1_000, "seconds": 20.0, "p50_ms": 0.21, "p95_ms": 0.4, "p99_ms": 1.3, "max_ms": 4.2}
    busy = {"own": 0.61, "outside": 0.03, "steal": 0.02, "waited": 0.2, "running": 3.4, "pressure_cpu": 0.31}
    starved = {**calm, **busy, "max_ms": 88.0, "outside": 0.4, "starved_s": 3.0}
    return [
        MachinePhase(phase="warmup", kind="warmup"),
        MachinePhase(phase="baseline", kind="baseline", **calm, **busy),
        MachinePhase(phase="cache-down", kind="fault", **starved),
        MachinePhase(phase="recovered", kind="recovered", **calm, **busy),
    ]


def noise(random: Random) -> list[NoiseRow]:
    took = random.gamma(2.0, 150.0, (65, 50)).astype(int)
    return [
        NoiseRow(
            start_ns=T0 + (k - 5) * NS,
            end_ns=T0 + (k - 4) * NS,
            echoes=[Echo(20_000 * e, 60, int(us) + 80) for e, us in enumerate(took[k])],
        )
        for k in range(65)
    ]


def _break(checks: list[Check], evil: str) -> None:
    gone = next(c for c in checks if c.name == "durability")
    gone.verdict, gone.value = Outcome.FAIL, 3
    gone.evidence = [
        f"post 0193f2a1-77c4-7a10-9f21-5b1f{i:08x}, acked at {12.031 + 3.7 * i:.3f} s by user {17 + 40 * i} in us-east, is "
        f"missing from the final walk of user {93 + i} (follows since 2.1 s) in {('us-east', 'ap-tokyo', 'us-east')[i]} "
        f"at 71.{2 + i}04 s, page 2 of 3, although older and newer posts of the same author are there{evil}"
        for i in range(3)
    ]
    slow = next(c for c in checks if c.name.endswith("max <= 500ms") and c.phase == "cache-down")
    slow.verdict, slow.value, slow.machine = Outcome.FAIL, 1_204, 88.0
    slow.evidence = ["post 0193f2a1-8c11 due at 20.412 s reached user 8123 in us-east at 21.616 s, after 1,204 ms"]


def manifest(verdict: str, evil: str) -> dict[str, Any]:
    return {
        "scenario": "celebrity-cache-kill",
        "seed": 42,
        "target": f"reference{evil}",
        "defects": ["lose-after-ack"] if verdict == "fail" else [],
        "command": f"feedstorm run celebrity-cache-kill{evil}",
        "started": "2025-11-20T23:58:11+00:00",
        "git": {"head": "d5ac901be77aa0c1", "dirty": True},
        "machine": {"cores": 2, "memory_gib": 24.0, "kernel": "6.1", "cpu": "AMD EPYC 7763"},
        "versions": {"python": "3.11.7", "feedstorm": "0.1.0", "locust": "2.47.0", "duckdb": "1.4.1"},
    }


def fault(evil: str) -> dict[str, Any]:
    return {
        "id": "f1", "kind": "kill", "handle": f"us-east.memcached{evil}", "region": "us-east", "regions": ["us-east"],
        "params": {}, "phase": "cache-down", "colour": "#c8385a", "due_ns": T0 + 25 * NS, "injected_ns": T0 + 25 * NS + 4_100_000,
        "witnessed_ns": T0 + 25 * NS + 31_000_000, "undo_started_ns": T0 + 35 * NS, "undone_ns": T0 + 36 * NS + 210_000_000,
        "witness": {"ok": True, "evidence": f"process 4711 is gone; tcp://127.0.0.1:40123 refuses connections{evil}"},
        "undo": {"ok": True, "detail": "hold removed; serves again as process 4990"},
    }  # fmt: skip


def generator(evil: str) -> list[dict[str, Any]]:
    locust = {
        "process": "locust-0",
        "kind": "locust",
        "planned": 12_640,
        "sent": 12_640,
        "late": 26,
        "max_late_ms": 141.0,
    }
    streams = {"process": "streams-0", "kind": "streams", "planned": 2_000, "sent": 2_000, "loop_lag_p99_ms": 1.2}
    return [
        {**locust, "dropped": 0, "loop_lag_p99_ms": 3.4, "loop_lag_max_ms": 88.0, "completed": True, "errors": []},
        {**streams, "loop_lag_max_ms": 41.0, "completed": False, "errors": [f"connection reset{evil}"]},
    ]


def trouble(second: int, region: str) -> float:
    """How much slower a second is: the cache of us-east is down from 25 to 36 s."""
    if region != "us-east" or not 25 <= second <= 37:
        return 1.0
    return 1.0 + 5.0 * math.exp(-(second - 25) / 3)


def series(random: Random) -> dict[str, Any]:
    events: dict[str, list[list[float]]] = {}
    for key, base in (("us-east|local", 38.0), ("ap-tokyo|local", 36.0), ("ap-tokyo|remote", 148.0)):
        region = key.partition("|")[0]
        events[key] = [
            [t, m, m * random.uniform(1.8, 2.6), m * random.uniform(3, 5.5), int(random.normal(1_600, 110))]
            for t in range(-5, 61)
            for m in [base * trouble(t, region) * random.uniform(0.92, 1.1)]
        ]
    reads: dict[str, list[list[float]]] = {}
    for region in ("us-east", "ap-tokyo"):
        reads[region] = [
            [t, m, m * random.uniform(3, 5), m * random.uniform(6, 9), int(random.normal(85, 6)), 4 if t == 25 and region == "us-east" else 0]
            for t in range(-5, 60)
            for m in [6.5 * trouble(t, region) * random.uniform(0.9, 1.15)]
            if not (region == "ap-tokyo" and t in (31, 32))
        ]  # fmt: skip
    percentiles = {
        f"post_to_event|{scope}|ordinary|{phase}": curve(base * slow, 0.55)
        for scope, base in (("local", 38), ("remote", 148))
        for phase, slow in (("baseline", 1.0), ("cache-down", 1.5), ("recovered", 1.03))
    }
    percentiles |= {
        f"feed_read|{phase}": curve(6.5 * slow, 0.6)
        for phase, slow in (("baseline", 1.0), ("cache-down", 2.2), ("recovered", 1.1))
    }
    return {
        "t0_ns": T0,
        "per_second": {"post_to_event": events, "feed_read": reads},
        "percentiles": percentiles,
        "staleness": staleness(),
    }


def staleness() -> list[StalenessCurve]:
    curves = []
    for period, lost in (("before", 0), ("during", 140), ("after", 9)):
        for region in ("us-east", "ap-tokyo"):
            ages = (0, 50, 150, 500, 2_000, 10_000)
            points = [StalenessPoint(age, 1_000, max(0, 1_000 - 4_000 // (1 + age // 10) - lost)) for age in ages]
            span = {"start_s": 0.0, "end_s": 20.0, "points": points}
            fault = "kill us-east.memcached"
            curves.append(StalenessCurve(home="us-east", region=region, fault=fault, period=period, **span))
    return curves


def curve(median: float, spread: float) -> list[list[float]]:
    """A log-normal ladder."""
    z = (-3.0, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326, 2.576, 3.09, 3.29, 3.72, 4.0)
    return [[p, round(median * math.exp(spread * v), 3)] for p, v in zip(LADDER, z, strict=True)]


def histograms(random: Random) -> dict[str, Any]:
    found = {}
    for op, median in (("feed", 6.5), ("feed_new", 4.2), ("post", 3.1)):
        for region in ("us-east", "ap-tokyo"):
            for phase, slow in (("warmup", 1.3), ("baseline", 1.0), ("cache-down", 1.8), ("recovered", 1.05)):
                ladder = curve(median * slow, 0.6)
                at = dict(ladder)
                found[f"{op}|{region}|{phase}"] = {
                    "count": int(random.integers(900, 4000)), "p50_ms": at[50], "p90_ms": at[90], "p95_ms": at[95],
                    "p99_ms": at[99], "p999_ms": at[99.9], "max_ms": at[100], "curve": ladder,
                }  # fmt: skip
    return found


if __name__ == "__main__":
    from harness.report import write_reports

    made = make_run(Path(sys.argv[1]), *sys.argv[2:3])
    write_reports(made)
    print(made.report)
