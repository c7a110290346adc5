"""Processes that a supervisor keeps alive: who would die, who starts them again, and when they serve again.

An undo brings nothing back itself: it lets the target's own supervisor do so, and awaits the result.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import msgspec

from chaos.addresses import unready, wait_until
from chaos.handles import Handle
from chaos.kind import FaultError
from chaos.processes import Identity, ProcessState, includes_us, living, members, read_pid_file, read_state, send

READY_TIMEOUT_S = 20.0
DEATH_TIMEOUT_S = 5.0


class Supervised(msgspec.Struct, frozen=True, kw_only=True):
    """A process group by its leader, with what brings it back."""

    target: Identity
    supervisor: Identity | None
    """parent of the target, which starts it again; None when that is init"""
    pid_file: str
    ready: str

    @property
    def is_orphaned(self) -> bool:
        """Whether nobody is left to start it again."""
        return self.supervisor is not None and living(self.supervisor) is None


def find_supervised(handle: Handle, deed: str) -> Supervised:
    """The handle's process. Raises FaultError when it is not running, so that there is nothing to `deed`, or is us."""
    target = read_pid_file(handle.pid_file)
    if target is None:
        raise FaultError(f"{handle.name} is not running: nothing to {deed}")
    if includes_us(members(target.identity)):
        raise FaultError(f"{handle.name} contains the harness itself")
    parent = read_state(target.parent) if target.parent > 1 else None
    return Supervised(
        target=target.identity,
        supervisor=parent.identity if parent else None,
        pid_file=handle.pid_file,
        ready=handle.ready,
    )


def kill_group(leader: Identity) -> None:
    """SIGKILL until no member of the group is left. Raises FaultError."""

    def none_left() -> bool:
        left = members(leader)
        for state in left:
            send(state.identity, signal.SIGKILL)
        return not left

    if not wait_until(none_left, DEATH_TIMEOUT_S):
        raise FaultError(f"process group {leader.pid} did not die within {DEATH_TIMEOUT_S:g} s of SIGKILL")


def ask_to_end(leader: Identity, grace_s: float) -> bool:
    """SIGTERM to the leader; whether it ended in time. What outlives it in its group is killed, as supervisors do."""
    send(leader, signal.SIGTERM)
    if not wait_until(lambda: living(leader) is None, grace_s):
        return False
    kill_group(leader)
    return True


def await_service(process: Supervised, is_stale: Callable[[ProcessState], bool] = lambda leader: False) -> str:
    """Wait until it serves; a leader that is stale is killed, for its supervisor to start another.

    Returns how that went, in a sentence. Raises FaultError when it does not serve within READY_TIMEOUT_S.
    """

    def settled() -> bool:
        leader = read_pid_file(process.pid_file)
        if leader is not None and is_stale(leader):
            kill_group(leader.identity)
            leader = None
        return process.is_orphaned or (leader is not None and not unready(process.ready))

    if not wait_until(settled, READY_TIMEOUT_S):
        reason = unready(process.ready) or "no living process in its pid file"
        raise FaultError(f"not ready again within {READY_TIMEOUT_S:g} s: {reason}")
    if process.is_orphaned:
        return "its supervisor is gone, so nothing is left to restart"
    back = read_pid_file(process.pid_file)
    if back is not None and back.identity == process.target:
        return f"process {back.identity.pid} serves as before"
    return f"serves again as process {back.identity.pid if back else '?'}"
