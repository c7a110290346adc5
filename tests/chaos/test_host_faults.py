"""What the faults on processes and on their machine do beyond what every kind does (test_fault_kinds)."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from chaos_targets import HERE, ROOT, Target, end, free_port, supervised, talk, wait_for
from host_targets import children, held_bytes, host_case, own_lease_s, soft_limits

from chaos import wrapper
from chaos.addresses import unready
from chaos.children.hoard import available_bytes
from chaos.children.starting import start
from chaos.clocks import read_offset_s
from chaos.faults import KINDS, clock_skew, fd_exhaustion, restart
from chaos.faults.fd_exhaustion import limit_leaving
from chaos.handles import parse_handle
from chaos.kind import FaultError, parse_parameters
from chaos.marks import carries
from chaos.processes import Identity, ProcessState
from chaos.residue import observe, residue

MIB = 1 << 20
STUBBORN = """
import runpy, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
CLOCKS = "import os, time; print(time.time(), time.monotonic(), os.stat('.').st_mtime)"


def planned(kind_name: str, target: Target, **params: Any) -> tuple[Any, Any]:
    kind = KINDS[kind_name]
    parsed, problems = parse_parameters(kind, params)
    assert not problems
    return kind, kind.plan(parse_handle(target.name, target.handle), parsed)


def problems_of(kind_name: str, **params: Any) -> list[str]:
    return parse_parameters(KINDS[kind_name], params)[1]


@pytest.mark.parametrize(
    ("kind", "params", "problem"),
    [
        ("restart", {"signal": "HUP"}, "signal: must be one of KILL, TERM, got 'HUP'"),
        ("slow-start", {}, "delay: is required by slow-start"),
        ("slow-start", {"delay": "1ms"}, "delay: must be from 100ms to 10m, got '1ms'"),
        ("cpu-hog", {"workers": 0}, "workers: must be a whole number from 1 to 256, got 0"),
        ("cpu-hog", {"share": "101%"}, 'share: must be from "1%" to "100%", got \'101%\''),
        ("cpu-hog", {"share": 0.5}, 'share: must be from "1%" to "100%", got 0.5'),
        ("cpu-hog", {"pin": "yes"}, "pin: must be true or false, got 'yes'"),
        ("memory-pressure", {"size": "2G"}, "size: must be a size such as 512MiB, 2GiB or 64kB, got '2G'"),
        ("memory-pressure", {"size": "1GiB", "reserve": "1MiB"}, "reserve: must be at least 64MiB, got '1MiB'"),
        ("fd-exhaustion", {"free": -1}, "free: must be a whole number >= 0, got -1"),
        ("clock-skew", {"offset": "1s"}, "offset: must be from 5s to 8784h, ahead or"),
        ("clock-skew", {"offset": 5}, "offset: must be a duration such as 10s"),
    ],
)
def test_parameters_are_checked(kind: str, params: dict[str, Any], problem: str) -> None:
    assert any(p.startswith(problem) for p in problems_of(kind, **params)), problems_of(kind, **params)


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300), ("+5m", 300), ("-30s", -30), ("8784h", 366 * 86400)])
def test_a_skew_has_a_sign(text: str, seconds: float) -> None:
    assert parse_parameters(KINDS["clock-skew"], {"offset": text}) == ({"offset": seconds}, [])


# --- restart


@pytest.mark.slow
def test_a_process_that_does_not_end_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "GRACE_S", 0.3)
    port = free_port()
    stubborn = supervised(
        tmp_path, "stubborn", port, [sys.executable, "-c", STUBBORN, str(HERE / "stub_service.py"), str(port)]
    )
    try:
        kind, plan = planned("restart", stubborn, signal="TERM")
        with pytest.raises(FaultError, match=r"did not end within 0.3 s of SIGTERM"):
            kind.inject(plan)
        assert not kind.witness(plan, 0.2).ok
        assert "serves as before" in kind.undo(plan)
    finally:
        end(stubborn.supervisor)


@pytest.mark.slow
def test_what_is_held_down_is_not_restarted(service: Target) -> None:
    Path(service.handle["hold_file"]).touch()
    with pytest.raises(FaultError, match="held down"):
        planned("restart", service)


# --- slow start


@pytest.mark.slow
def test_each_start_is_slow_while_the_fault_holds(service: Target) -> None:
    kind, plan = planned("slow-start", service, delay="500ms")
    kind.inject(plan)
    first = _served_by_another(service, plan.wrapper.process.target)
    os.killpg(first.pid, signal.SIGKILL)
    began = time.monotonic()
    second = _served_by_another(service, first)
    assert time.monotonic() - began >= 0.5
    assert kind.undo(plan) == f"it starts as before; serves again as process {second.pid}"  # it is not restarted
    os.killpg(second.pid, signal.SIGKILL)
    third = _served_by_another(service, second)
    assert not carries(third, plan.wrapper.mark)


def _served_by_another(target: Target, than: Any) -> Any:
    wait_for(lambda: (leader := target.leader) and leader.identity != than, what="another process")
    wait_for(lambda: not unready(target.handle["ready"]), what="it serves")
    return target.leader.identity


@pytest.mark.slow
def test_one_fault_at_a_time_wraps_a_process(service: Target) -> None:
    kind, plan = planned("slow-start", service, delay="10s")
    kind.inject(plan)
    wait_for(lambda: service.leader is not None, what="its supervisor begins to start it")
    with pytest.raises(FaultError, match="already started in another way"):
        planned("slow-start", service, delay="5s")
    kind.undo(plan)
    _, other = planned("slow-start", service, delay="5s")
    kind.inject(other)
    assert kind.undo(plan)  # once more, late: the wrapper of the other one stays
    assert Path(service.handle["wrapper_file"]).exists()
    kind.undo(other)


@pytest.mark.slow
def test_words_are_removed_also_when_the_restart_never_came(service: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> bool:
        raise FaultError("killed here")

    first = service.leader.identity
    kind, plan = planned("slow-start", service, delay="10s")
    monkeypatch.setattr(wrapper, "ask_to_end", interrupted)
    with pytest.raises(FaultError, match="killed here"):
        kind.inject(plan)
    assert Path(service.handle["wrapper_file"]).exists()
    assert kind.undo(plan) == f"it starts as before; process {first.pid} serves as before"
    assert not Path(service.handle["wrapper_file"]).exists()


@pytest.mark.slow
def test_a_slow_start_without_a_supervisor_ends(service: Target) -> None:
    kind, plan = planned("slow-start", service, delay="30s")
    kind.inject(plan)
    end(service.supervisor)
    assert "supervisor is gone" in kind.undo(plan)
    assert not Path(service.handle["wrapper_file"]).exists()


# --- children


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "program", "params"),
    [("cpu-hog", "burn", {"workers": 2, "share": "5%"}), ("memory-pressure", "hoard", {"size": "16MiB"})],
)
def test_children_die_with_the_harness_and_without_an_undo(
    service: Target, kind: str, program: str, params: dict[str, Any]
) -> None:
    lease_s = own_lease_s()
    params = {**params, "lease": f"{lease_s}s"}
    code = (
        "import signal; from chaos.faults import KINDS; from chaos.handles import parse_handle; "
        "from chaos.kind import parse_parameters; "
        f"kind = KINDS[{kind!r}]; params, _ = parse_parameters(kind, {params!r}); "
        f"kind.inject(kind.plan(parse_handle('service', {service.handle!r}), params)); "
        "signal.pause()"
    )
    harness = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        wait_for(lambda: len(children(program, lease_s)) == params.get("workers", 1), what="children")
    finally:
        harness.kill()
        harness.wait(10)
    wait_for(lambda: not children(program, lease_s), what="children are gone")


@pytest.mark.slow
def test_children_end_with_their_lease(service: Target) -> None:
    kind, plan = planned("cpu-hog", service, workers=1, share="5%", lease="1s")
    began = time.monotonic()
    kind.inject(plan)
    assert kind.witness(plan, 0.3).ok
    wait_for(lambda: "no worker runs" in kind.witness(plan, 0.1).evidence, 5, "the lease ends")
    assert time.monotonic() - began >= 0.9
    assert kind.undo(plan) == "0 worker(s) ended, none is left"


# --- cpu hog


@pytest.mark.slow
def test_workers_take_their_share_on_the_targets_cores(service: Target) -> None:
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(service.leader.identity.pid, {core})
    lease_s = own_lease_s()
    kind, plan = planned("cpu-hog", service, share="40%", pin=True, lease=f"{lease_s}s")
    assert len(plan.cores) == 1  # one for each core of the target
    kind.inject(plan)
    try:
        (worker,) = children("burn", lease_s)
        pid = int(worker.name)
        assert os.sched_getaffinity(pid) == {core}
        used_before, began = _cpu_s(pid), time.monotonic()
        wait_for(lambda: _cpu_s(pid) - used_before >= 0.4, 30, "it works")
        assert (_cpu_s(pid) - used_before) / (time.monotonic() - began) < 0.55  # never more, but less beside others
    finally:
        kind.undo(plan)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_a_stopped_worker_is_no_hog(service: Target) -> None:
    """Its process alone proves nothing."""
    lease_s = own_lease_s()
    kind, plan = planned("cpu-hog", service, workers=1, lease=f"{lease_s}s")
    kind.inject(plan)
    (worker,) = children("burn", lease_s)
    os.kill(int(worker.name), signal.SIGSTOP)
    wait_for(lambda: worker.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "T", what="it stops")
    witness = kind.witness(plan, 0.3)
    assert not witness.ok
    assert "took 0.00 cores" in witness.evidence
    assert kind.undo(plan) == "1 worker(s) ended, none is left"


# --- memory pressure


@pytest.mark.slow
def test_memory_is_taken_from_the_machine_and_given_back(service: Target) -> None:
    size_bytes = 512 * MIB
    if available_bytes() < 4 * size_bytes:
        pytest.skip("this machine has too little memory to take 512 MiB of it")
    kind, plan = planned("memory-pressure", service, size="512MiB")
    kind.inject(plan)
    try:
        assert kind.witness(plan, 10).ok
        during_bytes = available_bytes()
    finally:
        kind.undo(plan)
    # others may take or free memory meanwhile: one of the two steps shows
    dropped, rose = plan.before_bytes - during_bytes, available_bytes() - during_bytes
    assert max(dropped, rose) > size_bytes // 2


def test_the_reserve_is_not_touched(service: Target) -> None:
    with pytest.raises(FaultError, match=r"the reserve of .* would not be left"):
        planned("memory-pressure", service, size="16MiB", reserve=f"{available_bytes()}B")


@pytest.mark.slow
def test_memory_is_given_back_when_others_need_the_reserve() -> None:
    lease_s, mark = own_lease_s(), "feedstorm-fault:reserve"
    job = {"size_bytes": 64 * MIB, "reserve_bytes": available_bytes() - 256 * MIB}
    start("hoard", mark, lease_s, job)
    ours: list[bytearray] = []

    def gave_back() -> bool:
        if held_bytes(lease_s) == 0:
            return True
        if len(ours) < 64:
            ours.append(bytearray(os.urandom(1) * (16 * MIB)))
        return False

    try:
        wait_for(lambda: held_bytes(lease_s) == 64 * MIB, what="it is taken")
        wait_for(gave_back, 20, "it is given back")
        assert len(children("hoard", lease_s)) == 1
    finally:
        for child in children("hoard", lease_s):
            os.kill(int(child.name), signal.SIGKILL)


# --- descriptors


@pytest.mark.parametrize(
    ("free", "in_use", "limit"),
    [
        (0, [0, 1, 2], 3),
        (2, [0, 1, 2], 5),
        (0, [0, 1, 2, 7], 3),
        (4, [0, 1, 2, 5], 8),
        (3, [0, 1, 2, 5], 7),
        (0, [], 0),
    ],
)
def test_so_many_descriptors_are_left_below_the_limit(free: int, in_use: list[int], limit: int) -> None:
    assert limit_leaving(free, in_use) == limit
    assert len(set(range(limit)) - set(in_use)) == free


@pytest.mark.slow
def test_no_connection_is_accepted_without_descriptors(service: Target) -> None:
    kind, plan = planned("fd-exhaustion", service)
    descriptors = Path(f"/proc/{plan.target.pid}/fd")
    idle = len(list(descriptors.iterdir()))
    assert talk(service.port) == b"got hi\n"
    wait_for(lambda: len(list(descriptors.iterdir())) == idle, 10, "it has closed that connection")
    kind.inject(plan)
    with pytest.raises((TimeoutError, ConnectionError)):
        talk(service.port, timeout_s=0.5)
    assert f"process {plan.target.pid} can open 0 more" in kind.witness(plan, 1).evidence
    kind.undo(plan)
    assert talk(service.port) == b"got hi\n"


@pytest.mark.slow
def test_who_answers_no_more_is_told(web: Target) -> None:
    kind, plan = planned("fd-exhaustion", web)
    kind.inject(plan)
    witness = kind.witness(plan, 1)
    kind.undo(plan)
    assert witness.ok
    assert f"; {web.handle['ready']}: " in witness.evidence
    assert not unready(web.handle["ready"])


@pytest.mark.slow
def test_as_many_connections_as_are_left(service: Target) -> None:
    kind, plan = planned("fd-exhaustion", service, free=1)
    kind.inject(plan)
    assert talk(service.port) == b"got hi\n"
    kind.undo(plan)


@pytest.mark.slow
def test_a_child_that_inherited_the_low_limit_gets_the_old_one(service: Target) -> None:
    before = soft_limits(service)
    kind, plan = planned("fd-exhaustion", service, free=16)
    kind.inject(plan)
    assert talk(service.port, b"fork\n") == b"got fork\n"
    wait_for(lambda: len(service.states()) == 3, what="another child")
    assert before.isdisjoint(soft_limits(service))
    assert kind.undo(plan) == "the limits of 3 process(es) are as before"
    assert soft_limits(service) == before


@pytest.mark.slow
def test_a_hard_limit_lowered_meanwhile_is_as_high_as_it_gets(service: Target) -> None:
    kind, plan = planned("fd-exhaustion", service, free=2)
    kind.inject(plan)
    first, other = (limit.process.pid for limit in sorted(plan.limits, key=lambda limit: limit.process))
    resource.prlimit(first, resource.RLIMIT_NOFILE, (resource.prlimit(first, resource.RLIMIT_NOFILE)[0], 100))
    assert kind.undo(plan) == "the limits of 2 process(es) are as before"
    assert resource.prlimit(first, resource.RLIMIT_NOFILE) == (100, 100)
    assert resource.prlimit(other, resource.RLIMIT_NOFILE)[0] == plan.limits[0].soft
    assert kind.undo(plan) == "the limits of 0 process(es) are as before"


@pytest.mark.slow
def test_one_limit_that_cannot_be_restored_keeps_none_of_the_others_low(
    service: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = soft_limits(service)
    kind, plan = planned("fd-exhaustion", service, free=2)
    kind.inject(plan)
    first, other = (limit.process.pid for limit in sorted(plan.limits, key=lambda limit: limit.process))
    living = fd_exhaustion.living

    def forbidden(process: Identity) -> ProcessState | None:
        if process.pid == first:
            raise PermissionError("not ours any more")
        return living(process)

    with monkeypatch.context() as patch:
        patch.setattr(fd_exhaustion, "living", forbidden)
        with pytest.raises(FaultError, match=f"process {first}: not ours any more"):
            kind.undo(plan)
    assert {resource.prlimit(other, resource.RLIMIT_NOFILE)[0]} == before
    kind.undo(plan)
    assert soft_limits(service) == before


@pytest.mark.slow
def test_more_than_can_be_opened_is_no_limit(service: Target) -> None:
    soft, _ = resource.prlimit(service.leader.identity.pid, resource.RLIMIT_NOFILE)
    with pytest.raises(FaultError, match="more anyway"):
        planned("fd-exhaustion", service, free=soft)


# --- clock skew


@pytest.mark.slow
def test_only_the_wall_clock_is_skewed(web: Target, request: pytest.FixtureRequest) -> None:
    host_case(request, "clock-skew")  # skips without the library
    _, plan = planned("clock-skew", web, offset="-2h")
    told = subprocess.run(
        [*plan.wrapper.words, sys.executable, "-c", CLOCKS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout.split()
    wall_s, monotonic_s, changed_s = map(float, told)
    assert abs(wall_s - (time.time() - 7200)) < 5
    assert abs(monotonic_s - time.monotonic()) < 5
    assert changed_s == ROOT.stat().st_mtime


@pytest.mark.slow
def test_a_skewed_process_that_dies_is_skewed_again_and_leaves_nothing(
    web: Target, request: pytest.FixtureRequest
) -> None:
    case = host_case(request, "clock-skew")
    kind, plan = planned("clock-skew", web, offset="5m")
    shared = set(clock_skew.SHARED_MEMORY.iterdir())
    kind.inject(plan)
    wait_for(case.active, what="the skew")
    first = web.leader.identity
    os.killpg(first.pid, signal.SIGKILL)
    _served_by_another(web, first)
    assert case.active()
    assert "its clock is as before" in kind.undo(plan)
    left = {file for file in set(clock_skew.SHARED_MEMORY.iterdir()) - shared if str(first.pid) in file.name}
    assert left == set()


@pytest.mark.slow
def test_a_skew_is_residue_until_it_is_undone(web: Target, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    case = host_case(request, "clock-skew")
    before = observe(web.handles)
    kind, plan = planned("clock-skew", web, offset="5m")
    kind.inject(plan)
    wait_for(case.active, what="the skew")
    told = residue(before, web.handles, settle_s=0)
    assert re.fullmatch(r"web: clock: \+(299|300|301) s off, was none", told[0])
    assert told[1].startswith(f"web: wrapper file: {web.handle['wrapper_file']}, was none")
    kind.undo(plan)
    assert residue(before, web.handles) == []


def test_without_the_library_the_fix_is_told(web: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_skew, "LIBRARIES", ())
    with pytest.raises(FaultError, match="apt-get install libfaketime"):
        planned("clock-skew", web, offset="5m")


@pytest.mark.slow
def test_clocks_of_caches_and_queues_are_read(cache: Target, tmp_path: Path) -> None:
    assert abs(read_offset_s(f"memcached://127.0.0.1:{cache.port}")) < 2
    binary, port = shutil.which("redis-server"), free_port()
    if binary is None:
        pytest.skip("redis-server is not installed")
    serve = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    redis = supervised(tmp_path, "redis", port, serve)
    try:
        assert abs(read_offset_s(f"redis://127.0.0.1:{port}")) < 1
    finally:
        end(redis.supervisor)


@pytest.mark.slow
def test_who_tells_no_time_is_named(service: Target) -> None:
    url = f"memcached://127.0.0.1:{service.port}"
    with pytest.raises((FaultError, TimeoutError)):
        read_offset_s(url)
    with pytest.raises(FaultError, match="must be http://, redis:// or memcached://"):
        read_offset_s(f"tcp://127.0.0.1:{service.port}")
