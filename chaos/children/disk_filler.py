"""Takes all space of a small file system, in a file that has no name: with this process it is gone.

What the target frees meanwhile is taken as well. Never more than `most_bytes`.
"""

from __future__ import annotations

import errno
import os
import sys
import time

from chaos.children.lease import begin, say_ready

STEP_BYTES = 64 << 20
LOOK_EVERY_S = 0.05


def main() -> None:
    """See the module."""
    job = begin()
    descriptor = os.open(job["directory"], os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    size = _taken(descriptor, 0, job["most_bytes"])
    if os.fstatvfs(descriptor).f_bavail:
        sys.exit(f"{size} bytes are taken, and there is space left")
    say_ready()
    while True:
        time.sleep(LOOK_EVERY_S)
        if os.fstatvfs(descriptor).f_bavail:
            size = _taken(descriptor, size, job["most_bytes"])


def _taken(descriptor: int, size: int, most_bytes: int) -> int:
    """Size of the file once it has all there is, to the last block."""
    block = os.fstatvfs(descriptor).f_frsize
    step = STEP_BYTES
    while step >= block:
        if size + step > most_bytes:
            step //= 2
            continue
        try:
            os.posix_fallocate(descriptor, size, step)
            size += step
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            step //= 2
    return size


if __name__ == "__main__":
    main()
