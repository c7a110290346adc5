"""Real targets for chaos tests: a supervised service, a supervised memcached, a toxiproxy link."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chaos.addresses import unready
from chaos.processes import members, read_pid_file
from chaos.toxiproxy import Toxic, ToxiproxyServer

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WAN_MS = 30


def wait_for(condition: Callable[[], Any], timeout_s: float = 10.0, what: str = "condition") -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.01)


async def until(condition: Callable[[], Any]) -> None:
    """`wait_for` that lets the event loop run."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("condition: not within 10 s")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def toxiproxy_binary() -> str | None:
    local = [ROOT / ".tools/bin/toxiproxy-server", ROOT / ".tools/bin/server"]
    return shutil.which("toxiproxy-server") or next((str(p) for p in local if p.exists()), None)


@dataclass
class Target:
    """One handle with what the tests need to look behind it."""

    name: str
    handle: dict[str, Any]
    supervisor: subprocess.Popen[bytes] | None = None
    port: int = 0
    toxiproxy: subprocess.Popen[bytes] | None = None
    upstream_port: int = 0
    handles: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.handles = {self.name: self.handle}

    @property
    def leader(self) -> Any:
        return read_pid_file(self.handle["pid_file"])

    def states(self) -> list[str]:
        """States of the group's processes."""
        leader = self.leader
        return [m.state for m in members(leader.identity)] if leader else []

    @property
    def server(self) -> ToxiproxyServer:
        return ToxiproxyServer(self.handle["api"])

    def toxics(self) -> dict[str, dict[str, int]]:
        return {t.name: dict(t.attributes) for t in self.server.proxy(self.handle["proxy"]).toxics}


def supervised(folder: Path, name: str, port: int, command: list[str]) -> Target:
    pid_file, hold_file, wrapper_file = (folder / f"{name}.{end}" for end in ("pid", "hold", "wrapper"))
    handle = {
        "backend": "process",
        "pid_file": str(pid_file),
        "hold_file": str(hold_file),
        "wrapper_file": str(wrapper_file),
        "ready": f"tcp://127.0.0.1:{port}",
        "region": "here",
    }
    supervisor = subprocess.Popen(
        [sys.executable, str(HERE / "stub_supervisor.py"), str(pid_file), str(hold_file), str(wrapper_file), *command],
        stdin=subprocess.PIPE,
    )
    wait_for(lambda: pid_file.exists() and not unready(handle["ready"]), what=f"{name} is ready")
    return Target(name, handle, supervisor, port)


def end(process: subprocess.Popen[bytes] | None) -> None:
    """End a supervisor (with its child, which may be stopped) by closing its input; anything else by SIGKILL."""
    if process is None:
        return
    if process.stdin is not None:
        process.stdin.close()
    else:
        process.kill()
    process.wait(10)


def start_toxiproxy(port: int) -> subprocess.Popen[bytes]:
    binary = toxiproxy_binary()
    if binary is None:
        pytest.skip("no toxiproxy-server (PATH or .tools/bin); `make tools` builds it")
    process = subprocess.Popen(
        [binary, "-host", "127.0.0.1", "-port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: not unready(f"tcp://127.0.0.1:{port}"), what="toxiproxy listens")
    return process


def make_wan(server: ToxiproxyServer, listen_port: int, upstream_port: int, proxy: str = "a--b") -> None:
    """The link as the stack makes it: a proxy with a delay each way."""
    server.create_proxy(proxy, f"127.0.0.1:{listen_port}", f"127.0.0.1:{upstream_port}")
    for name, stream in (("wan_down", "downstream"), ("wan_up", "upstream")):
        server.set_toxic(proxy, Toxic(name=name, type="latency", stream=stream, attributes={"latency": WAN_MS}))


@dataclass
class Case:
    """One fault kind on a real target, with a look from outside at its effect."""

    kind: str
    target: Target
    active: Callable[[], bool]
    params: dict[str, Any] = field(default_factory=dict)
    lasting: bool = True
    """false: the effect is over at once, and nothing is undone"""
    as_before: Callable[[], None] | None = None
    """asserts that the target is what it was; None: `assert_as_before` knows how"""


CONTAINER_KINDS = (
    "container-kill",
    "container-pause",
    "container-stop",
    "container-restart",
    "container-disconnect",
    "container-cpu-limit",
)
LINK_KINDS = (
    *("latency", "latency-one-way", "bandwidth", "bandwidth-one-way", "slicer", "slicer-one-way"),
    *("reset", "reset-one-way", "reset-some", "slow-close", "slow-close-one-way", "limit-data", "limit-data-one-way"),
    *("down", "partition", "partition-one-way", "isolate", "isolate-pair", "ring"),
)
HOST_KINDS = (
    "restart",
    "restart-term",
    "slow-start",
    "cpu-hog",
    "memory-pressure",
    "fd-exhaustion",
    "clock-skew",
)
STORE_KINDS = (
    *("cache-eviction", "durable-lock", "durable-slow", "queue-pause", "flag", "disk-full", "torn-log-tail"),
    *("slow-readers", "greedy-client", "mass-disconnect", "buffering-proxy"),
)
KIND_NAMES = (
    *("kill", "pause", "cache-flush"),
    *LINK_KINDS,
    *CONTAINER_KINDS,
    *HOST_KINDS,
    *STORE_KINDS,
)


def make_case(request: pytest.FixtureRequest, name: str) -> Case:
    if name in CONTAINER_KINDS:
        from docker_targets import container_case  # which is made of what is here

        return container_case(request, name)
    if name in LINK_KINDS:
        from link_targets import link_case  # as above

        return link_case(request, name)
    if name in HOST_KINDS:
        from host_targets import host_case  # as above

        return host_case(request, name)
    if name in STORE_KINDS:
        from store_targets import store_case  # as above

        return store_case(request, name)
    if name in ("kill", "pause"):
        service: Target = request.getfixturevalue("service")
        if name == "kill":
            return Case(name, service, lambda: bool(unready(service.handle["ready"])))
        return Case(name, service, lambda: set(service.states()) == {"T"})
    if name == "cache-flush":
        cache: Target = request.getfixturevalue("cache")
        memcached(cache.port, "set mine 0 0 1\r\n1\r\n")
        return Case(name, cache, lambda: memcached(cache.port, "get mine\r\n") == "END", lasting=False)
    raise AssertionError(f"no case is called {name}")


def memcached(port: int, request: str) -> str:
    """First line of the reply."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(request.encode())
        with sock.makefile("rb") as replies:
            return replies.readline().decode().strip()


def talk(port: int, line: bytes = b"hi\n", timeout_s: float = 5.0) -> bytes:
    """What the service answers on `port`."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as sock:
        sock.sendall(line)
        with sock.makefile("rb") as replies:
            return replies.readline()


def assert_as_before(case: Case) -> None:
    """The target is what it was before the fault."""
    target = case.target
    if case.as_before is not None:
        case.as_before()
        return
    if target.handle["backend"] == "toxiproxy":
        assert target.toxics() == {n: {"latency": WAN_MS, "jitter": 0} for n in ("wan_down", "wan_up")}
        assert target.server.proxy("a--b").enabled
        assert talk(target.port) == b"got hi\n"
        return
    assert not unready(target.handle["ready"])
    assert not Path(target.handle["hold_file"]).exists()
    assert "T" not in target.states()
