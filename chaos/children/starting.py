"""The fault's side: a child is started under the fault's mark (`chaos.marks`), by which anybody finds and ends it.

So whoever undoes the fault needs no pid: not after a SIGKILL of the harness, nor when it came between the fork and the
first note of the pid.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from chaos.children.lease import READY
from chaos.kind import FaultError, Parameter
from chaos.marks import end_marked
from harness.core.units import parse_duration_s

START_TIMEOUT_S = 10.0
LONGEST_LEASE_S = 3600.0
_ROOT = Path(__file__).parents[2]
_READY_LINE = f"{READY}\n".encode()


def _lease_s(value: Any) -> float:
    seconds = parse_duration_s(value)
    if not 1 <= seconds <= LONGEST_LEASE_S:
        raise ValueError(f"must be from 1s to {LONGEST_LEASE_S:g}s, got {value!r}")
    return seconds


LEASE = Parameter(_lease_s, "the effect ends by itself after this long, should nobody undo it", default=600.0)
"""a parameter of kinds whose effect has an end of its own; seconds"""


def start(program: str, mark: str, lease_s: float, job: Any, timeout_s: float = START_TIMEOUT_S) -> None:
    """Run `chaos.children.PROGRAM`; returns when its effect has begun.

    Call it from a thread that lives as long as the fault: the child ends with it. Raises FaultError with what the
    child said instead, OSError.
    """
    start_all(program, mark, lease_s, [job], timeout_s)


def start_all(program: str, mark: str, lease_s: float, jobs: Sequence[Any], timeout_s: float = START_TIMEOUT_S) -> None:
    """`start` for several children of one mark: all are started, then all are awaited, `timeout_s` in total.

    When one does not begin, all are ended.
    """
    with ExitStack() as outputs:
        try:
            descriptors = [outputs.enter_context(_running(program, mark, lease_s, job)).fileno() for job in jobs]
            deadline = time.monotonic() + timeout_s
            for said in (_said(descriptor, deadline) for descriptor in descriptors):
                if not said.endswith(_READY_LINE):
                    lines = said.decode(errors="replace").strip().splitlines() or ["it said nothing"]
                    raise FaultError(f"{program} did not begin within {timeout_s:g} s: {lines[-1]}")
        except (FaultError, OSError):
            end_marked(mark)
            raise


def _running(program: str, mark: str, lease_s: float, job: Any) -> IO[bytes]:
    """Start a child and give it its job; what it will say."""
    command = [sys.executable, "-m", f"chaos.children.{program}", mark, str(os.getpid()), str(lease_s)]
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    threading.Thread(target=process.wait, name=f"bury-{process.pid}", daemon=True).start()
    try:
        with process.stdin as stdin:
            stdin.write(json.dumps(job).encode())
    except BrokenPipeError:
        pass  # it ended; what it said tells why
    return process.stdout


def _said(descriptor: int, deadline: float) -> bytes:
    """What it says until it is ready, ends, or the time is over."""
    said = b""
    while not said.endswith(_READY_LINE):
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        more = os.read(descriptor, 4096)
        if not more:
            break
        said += more
    return said
