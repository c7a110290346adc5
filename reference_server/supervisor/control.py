"""What other processes do to a running stack: start one in the background, end it, look at it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from reference_server.supervisor.endpoints import Endpoints, LinkHandle, ProcessHandle, RegionEndpoints
from reference_server.supervisor.layout import StackDirectory, is_stopped, read_pid_file, start_time
from reference_server.supervisor.programs import StackUnavailable
from reference_server.supervisor.readiness import is_ready
from reference_server.supervisor.sweep import sweep

POLL_S = 0.05
END_LIMIT_S = 15.0


class HandleStatus(msgspec.Struct, kw_only=True, frozen=True):
    """How one process handle is."""

    state: str
    """ready | starting | paused | held | down"""
    pid: int
    """0: none"""


class StackStatus(msgspec.Struct, kw_only=True, frozen=True):
    """How a stack is."""

    running: bool
    ready: bool
    supervisor_pid: int
    regions: dict[str, dict[str, str]]
    handles: dict[str, HandleStatus]


def start_detached(arguments: list[str], stack: StackDirectory) -> None:
    """Run `up` with these arguments in the background; return when it is ready.

    Raises StackUnavailable, OSError. An interrupt ends what was started.
    """
    message = stack.log("supervisor.stderr")
    message.parent.mkdir(parents=True, exist_ok=True)
    with message.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "reference_server", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    assert process.stdout is not None
    with process.stdout:
        try:
            said = process.stdout.readline().strip()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        if said == b"ready":
            process.returncode = 0  # it lives on: not ours to wait for
            return
    process.wait()
    lines = message.read_text(errors="replace").strip().splitlines()
    raise StackUnavailable(lines[-1] if lines else f"the supervisor ended with status {process.returncode}")


def end_stack(stack: StackDirectory) -> bool:
    """End the stack; False when none was running. Raises StackUnavailable when something of it stays."""
    running = stack.running()
    if running is None:
        return False
    os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + END_LIMIT_S
    while start_time(running.pid) == running.start_time:
        if time.monotonic() > deadline:
            os.kill(running.pid, signal.SIGKILL)
        time.sleep(POLL_S)
    if not sweep(running.marker):
        raise StackUnavailable(f"processes of the stack in {stack.path} do not end; look for FEEDSTORM_STACK in /proc")
    return True


def stack_status(stack: StackDirectory) -> StackStatus:
    """How the stack and each of its handles are now. For callers without an event loop."""
    return asyncio.run(stack_status_now(stack))


async def stack_status_now(stack: StackDirectory) -> StackStatus:
    """How the stack and each of its handles are now."""
    running = stack.running()
    endpoints = read_endpoints(stack)
    if running is None or endpoints is None:
        pid = running.pid if running else 0
        return StackStatus(running=running is not None, ready=False, supervisor_pid=pid, regions={}, handles={})
    regions = {name: _addresses(region) for name, region in endpoints.regions.items()}
    handles = await _statuses(endpoints)
    ready = all(h.state == "ready" for h in handles.values())
    return StackStatus(running=True, ready=ready, supervisor_pid=running.pid, regions=regions, handles=handles)


def _addresses(region: RegionEndpoints) -> dict[str, str]:
    found = {"api": region.api, "stream": region.stream}
    return found | {"edge": region.edge} if region.edge else found


async def _statuses(endpoints: Endpoints) -> dict[str, HandleStatus]:
    processes = {name: h for name, h in endpoints.handles.items() if isinstance(h, ProcessHandle)}
    found = await asyncio.gather(*(_status(handle) for handle in processes.values()))
    result = dict(zip(processes, found, strict=True))
    for name, handle in endpoints.handles.items():
        if isinstance(handle, LinkHandle):
            serves = await is_ready(f"{handle.api}/proxies/{handle.proxy}")
            result[name] = HandleStatus(state="ready" if serves else "down", pid=0)
    return result


async def _status(handle: ProcessHandle) -> HandleStatus:
    leader = read_pid_file(Path(handle.pid_file))
    if leader is None or start_time(leader[0]) != leader[1]:
        return HandleStatus(state="held" if Path(handle.hold_file).exists() else "down", pid=0)
    if is_stopped(leader[0]):
        return HandleStatus(state="paused", pid=leader[0])
    return HandleStatus(state="ready" if await is_ready(handle.ready) else "starting", pid=leader[0])


def read_endpoints(stack: StackDirectory) -> Endpoints | None:
    """Addresses and handles of the stack; None while it is not up."""
    try:
        return msgspec.json.decode(stack.endpoints.read_bytes(), type=Endpoints)
    except (OSError, msgspec.MsgspecError):
        return None
