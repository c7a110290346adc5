"""Folders for what is needed only while something is computed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.core.in_use import hold_open, nobody_uses

FRESH_S = 60.0
"""a folder younger than this may be about to be locked"""


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent` that goes afterwards. What killed processes left there under `prefix` goes as well.

    Its lock tells that it is in use. Raises OSError when `parent` cannot be written.
    """
    clear_left(parent, prefix)
    with TemporaryDirectory(prefix=prefix, dir=parent) as name:
        descriptor = hold_open(Path(name))
        try:
            yield Path(name)
        finally:
            os.close(descriptor)


def clear_left(parent: Path, prefix: str, fresh_s: float = FRESH_S) -> None:
    """Remove what killed processes left in `parent` under `prefix`.

    `fresh_s` 0: nobody can be about to lock one, as the caller holds what they would need.
    """
    for left in parent.glob(prefix + "*"):
        if left.is_dir() and _is_left(left, fresh_s):
            shutil.rmtree(left, ignore_errors=True)


def _is_left(folder: Path, fresh_s: float) -> bool:
    """Whether nobody uses it any more."""
    try:
        if time.time() - folder.stat().st_mtime < fresh_s:
            return False
        with nobody_uses(folder) as free:
            return free
    except OSError:
        return False
