"""queue-pause: redis answers no command that writes, nor any script; reads go on. Undo: CLIENT UNPAUSE.

`CLIENT PAUSE .. WRITE`, whose own time limit is the lease. The pause of all commands (ALL) is not offered: redis then
holds back CLIENT UNPAUSE as well, so nobody could end it before its time; a redis that answers nothing is the kind
`pause`. Needs redis 6.2.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.addresses import is_refused
from chaos.children.starting import LEASE
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness

TIMEOUT_S = 2.0
SILENCE_S = 0.3


class QueuePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One life of one redis server (another one at its address has another run id), and a key that nobody has."""

    address: str
    run_id: str
    key: str
    lease_s: float


class QueuePause:
    """See the module."""

    name = "queue-pause"
    about = "redis holds back every command that writes until the hold ends; connections and reads stay."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("redis",)
    colour = "#3f9c9c"
    parameters: Mapping[str, Parameter] = {"lease": LEASE}
    plan_type = QueuePlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> QueuePlan:
        """Which server it is. One whose writes are paused already is refused: that is somebody else's to end."""
        plan = QueuePlan(
            address=handle.redis,
            run_id=_run_id(handle.redis),
            key=f"feedstorm:pause:{secrets.token_hex(6)}",
            lease_s=params["lease"],
        )
        if not _takes_writes(plan, TIMEOUT_S):
            raise FaultError(f"{plan.address}: a write is not answered within {TIMEOUT_S:g} s before the fault")
        return plan

    def inject(self, plan: QueuePlan) -> None:
        """Pause writes."""
        _ask(plan.address, f"CLIENT PAUSE {round(plan.lease_s * 1000)} WRITE", TIMEOUT_S)

    def witness(self, plan: QueuePlan, within_s: float) -> Witness:
        """A write that changes nothing is not answered, while a read is."""
        try:
            silent = not _takes_writes(plan, min(SILENCE_S, within_s))
            began = time.monotonic()
            _ask(plan.address, "PING", min(TIMEOUT_S, within_s))
        except (OSError, FaultError) as error:
            return Witness(False, f"{plan.address}: {error}")
        answered = f"PING was answered in {(time.monotonic() - began) * 1000:.1f} ms"
        return Witness(silent, f"{plan.address}: a write was {'not ' if silent else ''}answered; {answered}")

    def undo(self, plan: QueuePlan) -> str:
        """Unpause and have a write answered. A server that is gone, or another one, has no pause of ours."""
        try:
            run_id = _run_id(plan.address)
            if run_id != plan.run_id:
                return f"{plan.address} is another server by now: the pause went with the first one"
            _ask(plan.address, "CLIENT UNPAUSE", TIMEOUT_S)
            if not _takes_writes(plan, TIMEOUT_S):
                raise FaultError(f"{plan.address}: still no answer to a write {TIMEOUT_S:g} s after CLIENT UNPAUSE")
        except ConnectionError:
            if not is_refused(f"tcp://{plan.address}"):
                raise
            return f"nobody answers at {plan.address}: the pause went with the server"
        return f"{plan.address} answers writes again"


def _takes_writes(plan: QueuePlan, within_s: float) -> bool:
    """Whether the deletion of a key that is not there is answered. Raises OSError, FaultError."""
    try:
        _ask(plan.address, f"DEL {plan.key}", within_s)
    except TimeoutError:
        return False
    return True


def _run_id(address: str) -> str:
    lines = _ask(address, "INFO server", TIMEOUT_S).splitlines()
    return next((line.partition(":")[2] for line in lines if line.startswith("run_id:")), "")


def _ask(address: str, command: str, timeout_s: float) -> str:
    """The reply to an inline command. Raises FaultError when it is an error, OSError."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as sock:
        sock.sendall(command.encode() + b"\r\n")
        with sock.makefile("rb") as replies:
            head = replies.readline().decode(errors="replace").strip()
            if not head:
                raise ConnectionResetError(f"{address} closed the connection")
            if head.startswith("$"):
                return replies.read(int(head[1:])).decode(errors="replace")
    if head.startswith("-"):
        raise FaultError(f"{address}: {command}: {head[1:]}")
    return head
