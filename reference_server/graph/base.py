"""The inherited graph in both directions. The inverse is computed once a stack and shared by its regions.

Forward (the population's own files): user -> followees. Inverse: author -> followers, with each edge's flag and its
rank in the follower's list, which tells whether an import has reached it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reference_server.seeding import Population

CHUNK_EDGES = 8_000_000
"""edges sorted at a time: bounds the scratch memory to some 300 MB"""
_NAMES = ("offsets", "followers", "hot", "rank")


@dataclass(frozen=True)
class Inverse:
    """Author a's followers, ascending: followers[offsets[a]:offsets[a + 1]]."""

    offsets: npt.NDArray[np.int64]
    followers: npt.NDArray[np.uint32]
    hot: npt.NDArray[np.uint8]
    rank: npt.NDArray[np.uint32]
    """place of the edge in the follower's own list"""


def open_inverse(population: Population, identity: str, folder: Path) -> Inverse:
    """The inverse graph, from `folder` if it is there for this `identity`; else computed and stored there.

    Several processes may call this at once: one computes, the others wait.
    """
    if population.edges == 0:
        empty = np.zeros(0, np.uint32)
        return Inverse(np.zeros(population.users + 1, np.int64), empty, np.zeros(0, np.uint8), empty)
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "done"
    with _locked(folder / "lock"):
        if not done.exists() or done.read_text() != identity:
            done.unlink(missing_ok=True)
            _build(population, folder)
            done.write_text(identity)
    offsets, followers, hot, rank = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in _NAMES)
    return Inverse(np.asarray(offsets), np.asarray(followers), np.asarray(hot), np.asarray(rank))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _build(population: Population, folder: Path) -> None:
    """Stable sort of all edges by followee, a range of followees at a time."""
    counts = np.zeros(population.users, np.int64)
    for start in range(0, population.edges, CHUNK_EDGES):
        counts += np.bincount(population.followees[start : start + CHUNK_EDGES], minlength=population.users)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    np.save(folder / "offsets.npy", offsets)
    followers = _new_array(folder / "followers.npy", np.uint32, population.edges)
    hot = _new_array(folder / "hot.npy", np.uint8, population.edges)
    rank = _new_array(folder / "rank.npy", np.uint32, population.edges)
    for first, end in _ranges(offsets):
        edges = np.flatnonzero((population.followees >= first) & (population.followees < end))
        owners = np.searchsorted(population.offsets, edges, side="right") - 1
        order = np.argsort(population.followees[edges], kind="stable")
        place = slice(int(offsets[first]), int(offsets[end]))
        followers[place] = owners[order]
        hot[place] = population.hot[edges][order]
        rank[place] = (edges - population.offsets[owners])[order]
    for array in (followers, hot, rank):
        array.flush()


def _ranges(offsets: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of authors with about CHUNK_EDGES edges each."""
    first, users = 0, len(offsets) - 1
    while first < users:
        end = int(np.searchsorted(offsets, offsets[first] + CHUNK_EDGES, side="right")) - 1
        end = min(max(end, first + 1), users)
        yield first, end
        first = end


def _new_array(path: Path, dtype: type[np.generic], length: int) -> np.memmap[tuple[int], np.dtype[np.generic]]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=(length,))
