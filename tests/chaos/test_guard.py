"""The guard names every problem with its path and the nearest valid name."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.guard import validate, validate_phases
from chaos.timeline import due_faults, fault_paths
from harness.core.clock import NS_PER_S
from harness.core.scenario import FaultSpec, Phase

HANDLES: dict[str, dict[str, Any]] = {
    "us.memcached": {
        "backend": "process",
        "pid_file": "/x/pid",
        "hold_file": "/x/hold",
        "ready": "tcp://127.0.0.1:1",
        "memcached": ["127.0.0.1:1"],
    },
    "us.api": {"backend": "process", "pid_file": "/x/pid", "ready": "http://127.0.0.1:1/readyz"},
    "link.us.ap": {"backend": "toxiproxy", "api": "http://127.0.0.1:2", "proxy": "us--ap"},
    "link.ap.us": {"backend": "toxiproxy", "api": "http://127.0.0.1:2", "proxy": "ap--us"},
    "far": {"backend": "process", "pid_file": "/x/pid", "memcached": ["10.0.0.7:11211"]},
    "odd": {"backend": "docker"},
}


def fault(kind: str, handle: str, **params: Any) -> FaultSpec:
    return FaultSpec(kind=kind, handle=handle, hold_s=1, params=params)


@pytest.mark.parametrize(
    "spec",
    [
        fault("kill", "us.memcached"),
        fault("pause", "us.api"),
        fault("cache-flush", "us.memcached"),
        fault("latency", "link.us.ap", latency="400ms", jitter="50ms"),
        fault("partition", "link.*"),
        fault("partition", "link.us.ap", direction="one-way"),
    ],
)
def test_good_faults_have_no_problems(spec: FaultSpec) -> None:
    assert validate({"faults[0]": spec}, HANDLES) == []


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (fault("kil", "us.memcached"), "f.kind: unknown fault kind 'kil' (did you mean 'kill'?)"),
        (fault("kill", "us.memcache"), "f.handle: no handle is called 'us.memcache' (did you mean 'us.memcached'?)"),
        (fault("kill", "eu.*"), "f.handle: no handle is called 'eu.*' (valid: "),
        (fault("kill", "us.api"), "f.handle: us.api: kill needs hold_file of the handle"),
        (fault("kill", "link.us.ap"), "link.us.ap: kill needs a process handle, this is a toxiproxy one"),
        (fault("partition", "us.api"), "us.api: partition needs a toxiproxy handle, this is a process one"),
        (fault("cache-flush", "us.api"), "us.api: cache-flush needs memcached of the handle"),
        (fault("cache-flush", "far"), "far: address '10.0.0.7' is not on this machine (allow it with --allow-host"),
        (fault("pause", "odd"), "odd: backend must be one of process, toxiproxy, network, container, got 'docker'"),
        (fault("latency", "link.us.ap"), "f.latency: is required by latency (one-way delay, such as 400ms)"),
        (fault("latency", "link.us.ap", latency="4"), "f.latency: must be a duration such as 10s"),
        (fault("latency", "link.us.ap", latency="4h"), "f.latency: must be from 1ms to 30s, got '4h'"),
        (
            fault("latency", "link.us.ap", latancy="4ms"),
            "latancy: unknown parameter of latency (did you mean 'la",
        ),
        (fault("partition", "link.us.ap", direction="in"), "f.direction: must be one of both, one-way, got 'in'"),
    ],
)
def test_each_problem_is_named(spec: FaultSpec, problem: str) -> None:
    assert any(problem in p for p in validate({"f": spec}, HANDLES)), validate({"f": spec}, HANDLES)


def test_all_problems_at_once() -> None:
    specs = {"phase[0].faults[0]": fault("kil", "nowhere"), "phase[1].faults[0]": fault("latency", "us.api")}
    paths = [p.partition(":")[0] for p in validate(specs, HANDLES)]
    assert paths == [
        "phase[0].faults[0].kind",
        "phase[0].faults[0].handle",
        "phase[1].faults[0].latency",
        "phase[1].faults[0].handle",
    ]


def test_a_far_host_may_be_allowed() -> None:
    assert validate({"f": fault("cache-flush", "far")}, HANDLES, allow_hosts=["10.0.0.7"]) == []


def test_a_target_without_handles() -> None:
    assert "this target has no handles" in validate({"f": fault("pause", "a")}, {})[0]


def test_overlap_of_kinds_that_would_end_each_other() -> None:
    slicer = FaultSpec(kind="slicer", handle="link.ap.us", hold_s=5, params={"size": "64B"})
    down = FaultSpec(kind="down", handle="link.*", hold_s=5, at_s=4)
    assert validate_phases([Phase(name="a", duration_s=9, faults=(slicer, down))], HANDLES) == [
        "phase[0].faults[1].at: down on link.ap.us overlaps slicer of phase[0].faults[0]"
    ]


def test_a_lease_that_ends_before_the_hold() -> None:
    spec = FaultSpec(kind="cpu-hog", handle="us.api", hold_s=900, params={"lease": "10m"})
    (problem,) = [p for p in validate({"fault": spec}, HANDLES) if "lease" in p]
    assert problem == "fault.lease: must be as long as the hold (900.0 s) at least"


def test_overlap_of_one_kind_on_one_handle() -> None:
    first = FaultSpec(kind="partition", handle="link.*", hold_s=5)
    inside = FaultSpec(kind="partition", handle="link.ap.us", hold_s=1, at_s=4)
    after = FaultSpec(kind="partition", handle="link.ap.us", hold_s=1, at_s=5)
    assert validate_phases([Phase(name="a", duration_s=9, faults=(first, after))], HANDLES) == []
    assert validate_phases([Phase(name="a", duration_s=9, faults=(first, inside))], HANDLES) == [
        "phase[0].faults[1].at: partition on link.ap.us overlaps partition of phase[0].faults[0]"
    ]


def test_due_faults_follow_the_phases() -> None:
    phases = [
        Phase(name="calm", duration_s=10),
        Phase(
            name="storm",
            duration_s=10,
            faults=(
                FaultSpec(kind="partition", handle="link.*", hold_s=1, at_s=3),
                FaultSpec(kind="pause", handle="us.api", hold_s=1, at_s=2),
            ),
        ),
    ]
    due = due_faults(phases, 1_000, HANDLES)
    assert [(f.id, f.kind, f.handle, (f.due_ns - 1_000) / NS_PER_S, f.phase) for f in due] == [
        ("f1", "pause", "us.api", 12.0, "storm"),
        ("f2", "partition", "link.ap.us", 13.0, "storm"),
        ("f3", "partition", "link.us.ap", 13.0, "storm"),
    ]
    assert list(fault_paths(phases)) == ["phase[1].faults[0]", "phase[1].faults[1]"]
