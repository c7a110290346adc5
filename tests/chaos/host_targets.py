"""Cases of the faults on processes and on the machine they run on, each with a look from outside at its effect."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chaos_targets import Case, Target, free_port, supervised

from chaos.addresses import unready
from chaos.clocks import read_offset_s
from chaos.faults.clock_skew import find_libfaketime
from chaos.kind import FaultError
from chaos.processes import members

HOARD_BYTES = 96 << 20
SKEW_S = 300


def start_web(folder: Path) -> Target:
    """A supervised web server, which tells its time with each answer."""
    port, pages = free_port(), folder / "pages"
    pages.mkdir()
    serve = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(pages), str(port)]
    target = supervised(folder, "web", port, serve)
    target.handle["ready"] = target.handle["clock"] = f"http://127.0.0.1:{port}/"
    return target


def children(program: str, lease_s: float) -> list[Path]:
    """/proc directories of the processes that run a program of `chaos.children` with this lease."""
    wanted = {f"chaos.children.{program}".encode(), str(lease_s).encode()}
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = set(entry.read_bytes().split(b"\0"))
        except OSError:
            continue
        if wanted <= words:
            found.append(entry.parent)
    return found


def held_bytes(lease_s: float) -> int:
    """What the hoarder with this lease has taken."""
    held = 0
    for entry in children("hoard", lease_s):
        try:
            lines = (entry / "status").read_text().splitlines()
        except OSError:
            continue
        held += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssShmem:"))
    return held


def soft_limits(target: Target) -> set[int]:
    """Limits of open files of the target's processes."""
    return {resource.prlimit(m.identity.pid, resource.RLIMIT_NOFILE)[0] for m in members(target.leader.identity)}


def own_lease_s() -> float:
    """One that no other test uses at the same time, by which its children are known."""
    return 600 + free_port() / 100_000


def _restart(target: Target, params: dict[str, Any]) -> Case:
    first = target.leader.identity

    def is_another() -> bool:
        leader = target.leader
        return leader is not None and leader.identity != first and not unready(target.handle["ready"])

    return Case("restart", target, is_another, params, lasting=False)


def _slow_start(target: Target) -> Case:
    def held_up() -> bool:
        return target.leader is not None and bool(unready(target.handle["ready"]))

    def as_before() -> None:
        assert not unready(target.handle["ready"])
        assert not Path(target.handle["wrapper_file"]).exists()

    return Case("slow-start", target, held_up, {"delay": "40s"}, as_before=as_before)


def _cpu_hog(target: Target) -> Case:
    lease_s = own_lease_s()

    def as_before() -> None:
        assert children("burn", lease_s) == []

    return Case(
        "cpu-hog",
        target,
        lambda: len(children("burn", lease_s)) == 2,
        {"workers": 2, "share": "30%", "pin": True, "lease": f"{lease_s}s"},
        as_before=as_before,
    )


def _memory_pressure(target: Target) -> Case:
    lease_s = own_lease_s()

    def as_before() -> None:
        assert children("hoard", lease_s) == []

    return Case(
        "memory-pressure",
        target,
        lambda: held_bytes(lease_s) == HOARD_BYTES,
        {"size": f"{HOARD_BYTES >> 20}MiB", "lease": f"{lease_s}s"},
        as_before=as_before,
    )


def _fd_exhaustion(target: Target) -> Case:
    before = soft_limits(target)

    def as_before() -> None:
        assert soft_limits(target) == before

    return Case("fd-exhaustion", target, lambda: max(soft_limits(target)) < 64, {"free": 2}, as_before=as_before)


def _clock_skew(target: Target) -> Case:
    try:
        find_libfaketime()
    except FaultError as error:
        pytest.skip(str(error))

    def offset_s() -> float:
        try:
            return read_offset_s(target.handle["clock"])
        except (OSError, FaultError):
            return 0.0

    def as_before() -> None:
        assert abs(read_offset_s(target.handle["clock"])) < 3
        assert not Path(target.handle["wrapper_file"]).exists()

    return Case(
        "clock-skew", target, lambda: abs(offset_s() - SKEW_S) < 3, {"offset": f"{SKEW_S}s"}, as_before=as_before
    )


_ON_SERVICE: dict[str, Callable[[Target], Case]] = {
    "restart": lambda target: _restart(target, {}),
    "restart-term": lambda target: _restart(target, {"signal": "TERM"}),
    "slow-start": _slow_start,
    "cpu-hog": _cpu_hog,
    "memory-pressure": _memory_pressure,
    "fd-exhaustion": _fd_exhaustion,
}


def host_case(request: pytest.FixtureRequest, name: str) -> Case:
    if name == "clock-skew":
        return _clock_skew(request.getfixturevalue("web"))
    return _ON_SERVICE[name](request.getfixturevalue("service"))
