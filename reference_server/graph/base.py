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
"""edges sorted at a time: bounds the scratch memory to some 500 MB"""
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
    """Counting sort of all edges by followee: a chunk is sorted, then scattered to where its authors' rows stand."""
    counts = np.zeros(population.users, np.int64)
    for start in range(0, population.edges, CHUNK_EDGES):
        counts += np.bincount(population.followees[start : start + CHUNK_EDGES], minlength=population.users)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    np.save(folder / "offsets.npy", offsets)
    followers = _new_array(folder / "followers.npy", np.uint32, population.edges)
    hot = _new_array(folder / "hot.npy", np.uint8, population.edges)
    rank = _new_array(folder / "rank.npy", np.uint32, population.edges)
    free = offsets[:-1].copy()
    for start in range(0, population.edges, CHUNK_EDGES):
        edges = slice(start, min(start + CHUNK_EDGES, population.edges))
        order, places = _scattered(population.followees[edges], free)
        owners, ranks = _owners(population.offsets, edges)
        followers[places] = owners[order]
        rank[places] = ranks[order]
        hot[places] = population.hot[edges][order]
    for array in (followers, hot, rank):
        array.flush()


def _scattered(
    followees: npt.NDArray[np.uint32], free: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(order by followee, place of each in that order); `free`, the next place of each author, moves on."""
    order = np.argsort(followees.astype(np.uint16), kind="stable")  # two radix passes: numpy has radix up to 16 bits
    order = order[np.argsort((followees[order] >> np.uint32(16)).astype(np.uint16), kind="stable")]
    counts = np.bincount(followees, minlength=len(free))
    authors = np.flatnonzero(counts)
    lengths = counts[authors]
    starts = np.cumsum(lengths) - lengths
    places = np.arange(len(followees)) + np.repeat(free[authors] - starts, lengths)
    free[authors] += lengths
    return order, places


def _owners(offsets: npt.NDArray[np.int64], edges: slice) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """The follower of each of these edges, and the edge's place in the follower's own list."""
    first = int(np.searchsorted(offsets, edges.start, side="right")) - 1
    end = int(np.searchsorted(offsets, edges.stop, side="left"))
    bounds = np.clip(offsets[first : end + 1], edges.start, edges.stop)
    lengths = np.diff(bounds)
    owners = np.repeat(np.arange(first, end, dtype=np.uint32), lengths)
    ranks = np.arange(edges.start, edges.stop) - np.repeat(offsets[first:end], lengths)
    return owners, ranks.astype(np.uint32)


def _new_array(path: Path, dtype: type[np.generic], length: int) -> np.memmap[tuple[int], np.dtype[np.generic]]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=(length,))
