"""Keeps the log files of a stack small: a file that has grown is copied aside and emptied, two copies are kept.

The parts keep their files open for appending, so they go on writing at the new end. What is written between the last
look at the copy and the emptying (well under a millisecond) is lost; a log that fills the disk loses more.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

MAX_BYTES = 32 << 20
KEPT = 2
EVERY_S = 10.0
_BLOCK_BYTES = 1 << 20
_log = logging.getLogger(__name__)


def rotate(path: Path, kept: int = KEPT) -> None:
    """`path` becomes `path`.1, .1 becomes .2 and so on up to `kept`; `path` is empty afterwards. Raises OSError."""
    for number in range(kept, 1, -1):
        older = Path(f"{path}.{number - 1}")
        if older.exists():
            older.replace(f"{path}.{number}")
    draft = Path(f"{path}.0")
    with path.open("r+b", buffering=0) as source:
        with draft.open("wb") as copy:
            while block := source.read(_BLOCK_BYTES):
                copy.write(block)
        os.ftruncate(source.fileno(), 0)
    draft.replace(f"{path}.1")


def rotate_large(folder: Path, max_bytes: int = MAX_BYTES) -> list[Path]:
    """Rotate the files `*.log` of a folder that are larger than that; returns those."""
    large = [path for path in sorted(folder.glob("*.log")) if path.stat().st_size > max_bytes]
    for path in large:
        rotate(path)
    return large


async def keep_small(folder: Path) -> None:
    """Look every EVERY_S, for ever."""
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            for path in rotate_large(folder):
                _log.info("%s had grown to %d MiB: begun anew", path.name, MAX_BYTES >> 20)
        except OSError as error:
            _log.error("log files: %s", error)
