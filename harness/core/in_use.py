"""Whether a folder is in use: who uses it holds a shared lock of the folder, which the kernel drops when he dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hold_open(folder: Path) -> int:
    """Say that the folder is in use, until the descriptor that is returned is closed. Raises OSError."""
    descriptor = _open(folder)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


@contextmanager
def nobody_uses(folder: Path) -> Iterator[bool]:
    """Whether nobody holds the folder; if so, nobody begins meanwhile. Raises OSError."""
    descriptor = _open(folder)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
