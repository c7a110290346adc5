"""Ends whatever is left of a stack, found by its mark in the environment; and the guard that does so after a SIGKILL.

Every process of a stack carries FEEDSTORM_STACK=<mark>, with a mark no other start of any stack shares. So
processes are found also when their leader, and with it the pid file's meaning, is gone.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

MARK_VARIABLE = "FEEDSTORM_STACK"
_SWEEP_LIMIT_S = 5.0
_POLL_S = 0.01


def marked(mark: str) -> list[int]:
    """Pids of the living processes that carry the mark (zombies have no environment left)."""
    wanted = f"{MARK_VARIABLE}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def sweep(mark: str) -> bool:
    """SIGKILL everything that carries the mark, until nothing does. False when something stays after 5 s."""
    deadline = time.monotonic() + _SWEEP_LIMIT_S
    while pids := marked(mark):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def start_guard(mark: str, sockets: str) -> int:
    """Fork a process that waits for this one's end, then sweeps and removes the socket directory.

    Returns the pipe end to keep open; closing it (or dying) lets the guard act. Call before any thread or event loop.
    """
    read_end, write_end = os.pipe()
    if os.fork() != 0:
        os.close(read_end)
        return write_end
    try:
        os.close(write_end)
        _detach()
        while os.read(read_end, 1):
            pass
        sweep(mark)
        shutil.rmtree(sockets, ignore_errors=True)
    finally:
        os._exit(0)


def _detach() -> None:
    """Own session, no terminal, deaf to what ends the supervisor gracefully."""
    os.setsid()
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
