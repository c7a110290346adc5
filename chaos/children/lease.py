"""The child's side: ends with the thread that started it, and by itself when its lease is over.

    python -m chaos.children.PROGRAM MARK PARENT_PID LEASE_S

The job comes as JSON on standard input: what must not be seen in a process list goes there. "ready" on
standard output says that the effect has begun; anything else is why it has not.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any

READY = "ready"
_PR_SET_PDEATHSIG = 1


def begin() -> Any:
    """Bind this process to parent and lease, then read the job. Ends it when the parent is gone already."""
    _, _, parent, lease_s = sys.argv
    signal.setitimer(signal.ITIMER_REAL, float(lease_s))  # SIGALRM ends a process that does nothing about it
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("whoever started this is gone")
    return json.load(sys.stdin)


def say_ready() -> None:
    """The effect has begun."""
    print(READY, flush=True)
