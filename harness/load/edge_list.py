"""Reads real follow graphs: SNAP edge lists, MatrixMarket files, CSV. One edge a line: follower, followee.

    SNAP          # comment lines, then two (or more) numbers separated by blanks
    MatrixMarket  %%MatrixMarket matrix coordinate ..., a size line, then entries; symmetric ones count both ways
    CSV           two (or more) columns separated by commas; one optional header line

Further columns (weights, times) are ignored, a file ending in .gz is decompressed. Every error names
file and line and what was expected there.
"""

from __future__ import annotations

import gzip
import itertools
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError

Ints = NDArray[np.int64]
UNREADABLE = (OSError, EOFError, zlib.error)
"""what a file that is missing, torn or not compressed as its name says raises"""
_NO_EDGES = "expected at least one edge, found none"
_BANNER = "%%matrixmarket"


class _LineError(Exception):
    """What was expected in a line."""


def read_edges(path: Path) -> tuple[Ints, Ints]:
    """(followers, followees) as numbered in the file. Raises UsageError naming file:line and what was expected."""
    pairs = array("q")
    for edge in _edges(path):
        pairs.extend(edge)
    if not pairs:
        raise UsageError(f"{path}: {_NO_EDGES}")
    flat = np.frombuffer(pairs, dtype=np.int64).reshape(-1, 2)
    return flat[:, 0].copy(), flat[:, 1].copy()


def check_edges(path: Path) -> None:
    """Raises UsageError when there are no edges to read, as far as the first of them tells."""
    if next(_edges(path), None) is None:
        raise UsageError(f"{path}: {_NO_EDGES}")


def _edges(path: Path) -> Iterator[Edge]:
    """Raises UsageError naming file:line and what was expected."""
    try:
        with open_text(path) as file:
            yield from _edge_lines(file)
    except _LineError as error:
        raise UsageError(f"{path}:{error}") from error
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UsageError:
    """What to say of one of UNREADABLE."""
    return UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def open_text(path: Path) -> IO[str]:
    """The text in a file, decompressed if its name ends in .gz."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


Numbered = Iterator[tuple[int, str]]
Edge = tuple[int, ...]


def _edge_lines(file: IO[str]) -> Iterator[Edge]:
    """Each edge (with its reverse in symmetric matrices); the first line that is no comment tells the format."""
    lines = enumerate(file, start=1)
    for number, line in lines:
        if line.lower().startswith(_BANNER):
            yield from _matrix_market(number, line, lines)
            return
        if line.isspace() or line[0] in "#%":
            continue
        rest = itertools.chain([(number, line)], lines)
        yield from _csv(rest) if "," in line else _snap(rest)
        return


def _snap(lines: Numbered) -> Iterator[Edge]:
    for number, line in lines:
        if line[0] in "#%" or line.isspace():
            continue
        try:
            follower, followee = line.split(None, 2)[:2]
            edge = (int(follower), int(followee))
        except ValueError:
            raise _expected(number, "two node numbers separated by blanks", line) from None
        yield _checked(number, edge, line)


def _csv(lines: Numbered) -> Iterator[Edge]:
    header_allowed = True
    for number, line in lines:
        if line[0] in "#%" or line.isspace():
            continue
        cells = [cell.strip().strip('"') for cell in line.split(",", 2)[:2]]
        try:
            edge = (int(cells[0]), int(cells[1]))
        except (ValueError, IndexError):
            if header_allowed and len(cells) > 1 and not any(_is_number(cell) for cell in cells):
                header_allowed = False
                continue
            raise _expected(number, "two node numbers separated by a comma", line) from None
        header_allowed = False
        yield _checked(number, edge, line)


def _matrix_market(number: int, banner: str, lines: Numbered) -> Iterator[Edge]:
    """Entries of a sparse matrix: row follows column; nodes count from 1."""
    words = banner.lower().split()
    if words[1:3] != ["matrix", "coordinate"] or len(words) < 5:
        raise _expected(number, "%%MatrixMarket matrix coordinate FIELD SYMMETRY", banner)
    both_ways = words[4] != "general"
    size: tuple[int, int, int] | None = None
    entries = 0
    for number, line in lines:
        if line[0] == "%" or line.isspace():
            continue
        if size is None:
            size = _size(number, line)
            continue
        entry = _entry(number, line, size)
        entries += 1
        yield (*entry, *entry[::-1]) if both_ways else entry
    if size is None or entries != size[2]:
        expected = "a size line: rows columns entries" if size is None else f"{size[2]} entries as the size line says"
        raise _LineError(f"{number}: expected {expected}, the file ends after {entries} entries")


def _size(number: int, line: str) -> tuple[int, int, int]:
    try:
        rows, columns, entries = (int(word) for word in line.split())
    except ValueError:
        raise _expected(number, "a size line: rows columns entries", line) from None
    return rows, columns, entries


def _entry(number: int, line: str, size: tuple[int, int, int]) -> tuple[int, int]:
    try:
        row, column = (int(word) for word in line.split(None, 2)[:2])
    except ValueError:
        raise _expected(number, "an entry: row column [value]", line) from None
    if not (1 <= row <= size[0] and 1 <= column <= size[1]):
        raise _expected(number, f"row 1..{size[0]} and column 1..{size[1]}", line)
    return row, column


def _checked(number: int, edge: tuple[int, int], line: str) -> tuple[int, int]:
    if not (0 <= edge[0] < 1 << 63 and 0 <= edge[1] < 1 << 63):
        raise _expected(number, "node numbers from 0 to 2^63 - 1", line)
    return edge


def _expected(number: int, what: str, line: str) -> _LineError:
    return _LineError(f"{number}: expected {what}, got {line.rstrip()[:80]!r}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
