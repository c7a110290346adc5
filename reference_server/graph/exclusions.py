"""Whose answer of `excluded` changed lately: an api keeps what it was told about the others, without asking again."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from reference_server.graph.changes import Applied

KEPT = 20_000


class Exclusions:
    """The newest changes, numbered from 1 on for as long as the process lives."""

    def __init__(self) -> None:
        self._life = secrets.randbits(48)
        self._users: deque[int] = deque(maxlen=KEPT)
        self._count = 0

    def note(self, applied: Applied) -> None:
        """Remember whom a batch of changes touches."""
        users = {user for user, _ in applied.follows | applied.readers}
        users.update(user for pair in applied.blocks for user in pair)
        self._users.extend(users)
        self._count += len(users)

    def since(self, life: int, count: int) -> list[Any]:
        """[life, count, users touched since (u32 little-endian) | null: it cannot be told]."""
        missed = self._count - count
        if life != self._life or not 0 <= missed <= len(self._users):
            return [self._life, self._count, None]
        newest: Iterable[int] = list(self._users)[len(self._users) - missed :]
        return [self._life, self._count, np.array(sorted(set(newest)), "<u4").tobytes()]
