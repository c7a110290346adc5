"""Takes memory, exactly as much as told, and holds it; but never so much that less than a reserve stays available.

When others take what is left of the reserve, it gives back, and does not take that again. Should memory run out after
all, the kernel ends this process before any other.
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path

from chaos.children.lease import begin, say_ready

CHUNK_BYTES = 16 << 20
"""memory is taken and given back in such pieces"""
LOOK_EVERY_S = 0.05
FLAGS = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
"""shared with nobody, but so the kernel counts it apart (RssShmem) from what the interpreter uses"""


def available_bytes() -> int:
    """MemAvailable: what can be had without swapping, by the kernel's estimate."""
    facts = Path("/proc/meminfo").read_bytes().splitlines()
    return next(int(line.split()[1]) * 1024 for line in facts if line.startswith(b"MemAvailable:"))


def main() -> None:
    """See the module."""
    job = begin()
    missing, reserve = job["size_bytes"], job["reserve_bytes"]
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    taken: list[mmap.mmap] = []
    say_ready()
    while True:
        available, chunk = available_bytes(), min(missing, CHUNK_BYTES)
        if available < reserve and taken:
            taken.pop().close()
            missing = 0
        elif chunk and available - chunk >= reserve:
            taken.append(mmap.mmap(-1, chunk, FLAGS))
            missing -= chunk
        else:
            time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main()
