"""What the faults on containers share: identity, who may be touched, an address that falls silent, coming back.

An engine that is away is waited for: its containers may live on as the fault left them, and the engine keeps most
faults on disk. So an undo without an engine fails, and says so; it works once the engine is back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from chaos.addresses import connect, unready
from chaos.docker_engine import LABEL, LABEL_VALUE, ContainerState, DockerEngine, EngineGone, NotThere
from chaos.handles import Handle
from chaos.kind import FaultError, Witness
from chaos.links import DEFAULT_PROBE, Reaction
from chaos.processes import Identity, living, read_state
from harness.core.units import format_duration, parse_duration_s

PROBE_TIMEOUT_S = 1.0
SILENCE_S = 0.8
"""on top of the time that the address took to answer before the fault"""
ENGINE_GRACE_S = 3.0
READY_TIMEOUT_S = 20.0
POLL_S = 0.05
LONGEST_GRACE_S = 60.0


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One life of one container: its full id, and when it was started."""

    docker: str
    id: str
    started_at: str
    name: str
    process: Identity | None
    """its first process, when the engine is this machine's"""
    ready: str
    probe: str

    @property
    def engine(self) -> DockerEngine:
        """The engine that runs it."""
        return DockerEngine(self.docker)

    def is_same_life(self, state: ContainerState) -> bool:
        """Whether it was not started again since."""
        return state.started_at == self.started_at


def refusal(handle: Handle) -> str:
    """Why faults may not touch the handle's container; empty when its owner allows it by label."""
    try:
        state = DockerEngine(handle.docker).container(handle.container)
    except FaultError as error:
        return str(error)
    return "" if state.allowed else _unlabelled(state)


def read_target(handle: Handle, purpose: str) -> tuple[Target, ContainerState]:
    """The running container of a handle. Raises FaultError when it may not be touched or is down."""
    state = DockerEngine(handle.docker).container(handle.container)
    if not state.allowed:
        raise FaultError(_unlabelled(state))
    if _holds_us(state.id):
        raise FaultError(f"{handle.name} contains the harness itself")
    if not state.running:
        raise FaultError(f"{handle.name} is not running: nothing to {purpose}")
    target = Target(
        docker=handle.docker,
        id=state.id,
        started_at=state.started_at,
        name=state.name,
        process=_first_process(state),
        ready=handle.ready,
        probe=handle.probe,
    )
    return target, state


def require_kept(state: ContainerState) -> None:
    """Raises FaultError for a container that its engine removes when it stops: nothing could bring it back."""
    if state.removed_on_exit:
        raise FaultError(f"container {state.name} is removed when it stops (--rm): it could not be started again")


def parse_grace_s(value: Any) -> int:
    """Whole seconds between the stop signal and SIGKILL, as the engine takes them."""
    seconds = parse_duration_s(value)
    if not 0 <= seconds <= LONGEST_GRACE_S or seconds != int(seconds):
        raise ValueError(f"must be whole seconds, {LONGEST_GRACE_S:g}s at most, got {value!r}")
    return int(seconds)


def reaction(target: Target, timeout_s: float) -> Reaction | None:
    """How the target's address reacts to a probe; None: not in time. Raises OSError when it refuses or resets."""
    parts = urlsplit(target.ready)
    payload = bytes.fromhex(target.probe) or DEFAULT_PROBE
    if parts.scheme == "http" and not target.probe:
        payload = f"GET {parts.path or '/'} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode()
    began = time.monotonic()
    try:
        with connect(target.ready, timeout_s) as sock:
            sock.settimeout(max(timeout_s - (time.monotonic() - began), 0.001))
            sock.sendall(payload)
            data = sock.recv(1)
    except TimeoutError:
        return None
    return Reaction(time.monotonic() - began, bool(data))


def normal_reaction(target: Target) -> Reaction | None:
    """How the address reacts before the fault; None when it does not: its silence will prove nothing."""
    try:
        return reaction(target, PROBE_TIMEOUT_S)
    except OSError:
        return None


def cut_off(target: Target, normal: Reaction | None, within_s: float) -> Witness:
    """Whether the target's address refuses connections, or stays silent for longer than it should."""
    if normal is None:
        return Witness(False, f"{target.ready} did not react before the fault: its silence proves nothing")
    enough_s = normal.seconds + SILENCE_S
    before = f"before, it reacted within {format_duration(normal.seconds)}"
    deadline = time.monotonic() + within_s
    while True:
        left_s = deadline - time.monotonic()
        try:
            now = reaction(target, min(enough_s, max(left_s, POLL_S)))
        except OSError as error:
            return Witness(True, f"{target.ready} refuses ({error.strerror or error}); {before}")
        if now is None and left_s < enough_s:
            return Witness(False, f"a hold of {format_duration(within_s)} is too short to prove silence")
        if now is None:
            return Witness(True, f"{target.ready} is silent for {format_duration(enough_s)}; {before}")
        if normal.data and not now.data:
            return Witness(True, f"{target.ready} closes without an answer; {before}")
        if left_s <= 0:
            return Witness(False, f"{target.ready} reacts within {format_duration(now.seconds)}")
        time.sleep(POLL_S)


def is_down(target: Target, within_s: float) -> Witness:
    """Whether the engine shows the container down."""
    return observed(target, within_s, lambda state: "" if state.running else "is down", "down")


def observed(target: Target, within_s: float, effect: Callable[[ContainerState], str], what: str) -> Witness:
    """Whether the engine soon shows the effect: `effect` gives it in words, or nothing."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            state = target.engine.container(target.id)
        except FaultError as error:
            return Witness(False, str(error))
        if seen := effect(state):
            return Witness(True, f"container {target.name} {seen}")
        if time.monotonic() >= deadline:
            return Witness(False, f"container {target.name} is not {what}")
        time.sleep(POLL_S)


def both(within_s: float, first: Callable[[float], Witness], second: Callable[[float], Witness]) -> Witness:
    """Two proofs in one; the second is looked for only after the first, in the time that is left."""
    began = time.monotonic()
    one = first(within_s)
    if not one.ok:
        return one
    other = second(within_s - (time.monotonic() - began))
    return Witness(other.ok, f"{one.evidence}; {other.evidence}")


def undo_on(target: Target, change: Callable[[DockerEngine, ContainerState], str]) -> str:
    """Apply `change` to the container, again for a while if it fails. Raises FaultError.

    A container that is gone took the fault with it, as did one that was recreated: the new one has another id.
    """
    engine = target.engine
    deadline = time.monotonic() + ENGINE_GRACE_S
    while True:
        try:
            state = engine.container(target.id)
        except NotThere:
            return f"container {target.name} is gone: nothing of this fault is left"
        except FaultError as error:
            if time.monotonic() >= deadline:
                raise _left_to_the_engine(target, error) from error
        else:
            try:
                return change(engine, state)
            except FaultError as error:
                if time.monotonic() >= deadline:
                    raise _left_to_the_engine(target, error) from error
        time.sleep(POLL_S)


def awake(target: Target) -> DockerEngine:
    """The engine, once the container is not paused: a paused one takes no signal."""
    engine = target.engine
    if engine.container(target.id).paused:
        engine.unpause(target.id)
    return engine


def bring_back(target: Target) -> str:
    """Start the container unless it runs, and wait until it serves. Raises FaultError when it does not."""

    def change(engine: DockerEngine, state: ContainerState) -> str:
        if not state.running:
            engine.start(target.id)
        _await_ready(target, engine)
        return f"container {target.name} serves at {target.ready}"

    return undo_on(target, change)


def _await_ready(target: Target, engine: DockerEngine) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while reason := unready(target.ready):
        if not engine.container(target.id).running:
            raise FaultError(f"container {target.name} ended again after it was started")
        if time.monotonic() >= deadline:
            raise FaultError(f"container {target.name} runs, but is not ready within {READY_TIMEOUT_S:g} s: {reason}")
        time.sleep(POLL_S)


def _left_to_the_engine(target: Target, error: FaultError) -> FaultError:
    if not isinstance(error, EngineGone):
        return error
    return FaultError(f"{error}; container {target.name} may be as the fault left it until its engine is back")


def process_is_gone(target: Target) -> bool:
    """Whether its first process, on this machine, has ended: what lived in its memory or cgroup is over."""
    return target.process is not None and living(target.process) is None


def _unlabelled(state: ContainerState) -> str:
    return (
        f"container {state.name} does not carry the label {LABEL}={LABEL_VALUE}: "
        f"faults touch only what was made with --label {LABEL}={LABEL_VALUE}"
    )


def _first_process(state: ContainerState) -> Identity | None:
    """The container's first process as this machine knows it; None when the engine runs elsewhere."""
    found = read_state(state.pid) if state.pid else None
    if found is None or state.id not in _read(f"/proc/{state.pid}/cgroup"):
        return None
    return found.identity


def _holds_us(container_id: str) -> bool:
    """Whether this process runs in that container: seen in its cgroup, or in the engine's files mounted into it."""
    roots = (line.split(" ")[3] for line in _read("/proc/self/mountinfo").splitlines())
    return container_id in _read("/proc/self/cgroup") or any(f"/{container_id}/" in root for root in roots)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
