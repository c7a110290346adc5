"""The posts written before the run: made from the population's seed, so every process and region has the same.

Each user who has joined is the author of round(history / mean_follows) posts, which gives timelines of about `history`
entries. Their times are uniform over the 20 h before the stack's first start. Nothing is stored; it takes milliseconds
to make.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reference_server.seeding.population import Population

WINDOW_US = 20 * 3600 * 1_000_000
_STREAM = 0x686973746F7279
"""names the random stream ("history"), so no other use of the same seed repeats its numbers"""
_WORDS = (
    "morning rain over the harbour",
    "new shoes, same old knees",
    "anyone else awake at this hour",
    "the queue at the bakery is worth it",
    "finished the book, starting it again",
    "train late, coffee good",
    "first tomatoes of the year",
    "lost the match, won the evening",
)


@dataclass(frozen=True)
class HistoryPosts:
    """n posts in ascending order of time; times are distinct."""

    ids: npt.NDArray[np.void]
    """V16[n]: UUIDv7"""
    authors: npt.NDArray[np.uint32]
    ts_us: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.ids)


def history_posts(population: Population) -> HistoryPosts:
    """The history of a population; empty when users join during the run, or when it asks for none."""
    each = round(population.history / population.mean_follows) if population.mean_follows > 0 else 0
    random = np.random.default_rng([_STREAM, population.seed])
    authors = np.repeat(np.flatnonzero(population.joined).astype(np.uint32), each)
    count = len(authors)
    random.shuffle(authors)
    ts_us = _distinct_times(random, count, population.history_end_us)
    return HistoryPosts(_uuid7(random, ts_us), authors, ts_us)


def history_text(post_id: bytes) -> str:
    """Text of a history post."""
    digest = hashlib.blake2b(post_id, digest_size=4).digest()
    return f"{_WORDS[digest[0] % len(_WORDS)]} #{digest.hex()}"


def _distinct_times(random: np.random.Generator, count: int, end_us: int) -> npt.NDArray[np.uint64]:
    """Strictly ascending microseconds in the window before `end_us`."""
    places = np.sort(random.integers(0, WINDOW_US - count, count)) + np.arange(count)
    return (places + max(end_us - WINDOW_US, 0)).astype(np.uint64)


def _uuid7(random: np.random.Generator, ts_us: npt.NDArray[np.uint64]) -> npt.NDArray[np.void]:
    """RFC 9562 version 7: 48 bits of ms, 12 bits of the ms's fraction (method 3), 62 random bits; big-endian."""
    ms, fraction = np.divmod(ts_us, np.uint64(1000))
    sub_ms = fraction * np.uint64(4096) // np.uint64(1000)
    words = np.empty((len(ts_us), 2), dtype=">u8")
    words[:, 0] = ms << np.uint64(16) | np.uint64(0x7000) | sub_ms
    words[:, 1] = random.integers(0, 1 << 62, len(ts_us), dtype=np.uint64) | np.uint64(1 << 63)
    return words.reshape(-1).view("V16")
