"""Processes by identity, never by number alone: a pid with its start time, read from /proc (Linux).

Signals go through a pidfd after the start time was compared, so a recycled pid is never hit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path

import msgspec

STOPPED = ("T", "t")
GONE = ("Z", "X")


class Identity(msgspec.Struct, frozen=True, order=True):
    """One process for all time: pid and start time (clock ticks since boot)."""

    pid: int
    start_time: int


class ProcessState(msgspec.Struct, frozen=True):
    """What /proc says of a process now. `state` is one letter: R, S, D, T (stopped), Z (dead) ..."""

    identity: Identity
    state: str
    parent: int
    group: int


def read_state(pid: int) -> ProcessState | None:
    """State of a process, or None when there is none with that pid."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return ProcessState(Identity(pid, int(fields[19])), fields[0], int(fields[1]), int(fields[2]))


def living(identity: Identity) -> ProcessState | None:
    """State of exactly this process; None when it is gone, dead but unburied, or its pid was recycled."""
    state = read_state(identity.pid)
    return state if state is not None and state.identity == identity and state.state not in GONE else None


def read_pid_file(path: str) -> ProcessState | None:
    """State of the process a pid file names; None when the file or the process is gone."""
    try:
        words = Path(path).read_text(encoding="ascii").split()
    except FileNotFoundError:
        return None
    if len(words) < 2 or not all(word.isdigit() for word in words[:2]):
        return None
    return living(Identity(int(words[0]), int(words[1])))


def members(root: Identity) -> list[ProcessState]:
    """Living processes of the group that `root` leads, and all their descendants. Also when `root` itself is gone."""
    states = [s for s in map(read_state, _pids()) if s is not None and s.state not in GONE]
    recycled = any(s.identity.pid == root.pid and s.identity != root for s in states)
    found = {s.identity.pid: s for s in states if s.group == root.pid or s.identity == root} if not recycled else {}
    while True:
        more = [s for s in states if s.parent in found and s.identity.pid not in found]
        if not more:
            return sorted(found.values(), key=lambda s: s.identity)
        found.update({s.identity.pid: s for s in more})


def send(identity: Identity, sig: signal.Signals) -> bool:
    """Signal exactly this process. False when it is gone. Raises PermissionError."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    try:
        if living(identity) is None:
            return False
        signal.pidfd_send_signal(descriptor, sig)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def own_identity() -> Identity:
    """This process."""
    state = read_state(os.getpid())
    assert state is not None
    return state.identity


def includes_us(states: Iterable[ProcessState]) -> bool:
    """Whether this process is among them: then a fault would hit the harness itself."""
    return any(s.identity.pid == os.getpid() for s in states)


def _pids() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]
