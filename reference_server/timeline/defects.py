"""Planted defects of a lane (settings.DEFECTS): what its owner does wrong on purpose. Off by default, at no cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reference_server.settings import Every, Settings
from reference_server.timeline.entry import SLOT_BYTES, STATUS_BITS, Status
from reference_server.timeline.slots import SLOT_DTYPE

_EARLY_S = 6.0
_PASSED_OVER = 5


@dataclass(frozen=True)
class LaneDefects:
    """What is wrong with a lane."""

    forgets: bool = False
    """a lost cached timeline cannot be made again from log and index ("no-wal")"""
    loses_last: bool = False
    revives: bool = False
    twice: Every = field(default_factory=Every)
    passes_over: Every = field(default_factory=Every)
    early: Every = field(default_factory=Every)

    @classmethod
    def of(cls, settings: Settings) -> LaneDefects:
        """Those that are switched on."""
        return cls(
            forgets=settings.has_defect("no-wal"),
            loses_last=settings.has_defect("refill-loses-last"),
            revives=settings.has_defect("resurrect-at-refill"),
            twice=settings.every(20, "redelivered-twice"),
            passes_over=settings.every(5, "hot-loses-entry"),
            early=settings.every(5, "event-before-visible"),
        )

    def reached(self, users: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """Who of these followers is written to."""
        if len(users) < 2 or not self.passes_over():
            return users
        kept: npt.NDArray[np.uint32] = users[np.arange(len(users)) % _PASSED_OVER != 1]
        return kept

    def refilled(self, slots: bytes) -> bytes:
        """What a timeline that is made again holds."""
        if self.loses_last:
            slots = slots[:-SLOT_BYTES]
        if not self.revives:
            return slots
        array = np.frombuffer(slots, SLOT_DTYPE).copy()
        deleted = array["status"] & STATUS_BITS == Status.DELETED
        array["status"][deleted] &= ~np.uint8(STATUS_BITS)
        return array.tobytes()

    def send(self, send: Callable[[], None], announce: Callable[[], None]) -> None:
        """Write a group to the cache; announce it long before when that is what is wrong."""
        if not self.early():
            send()
            return
        announce()
        asyncio.get_running_loop().call_later(_EARLY_S, send)


SOUND = LaneDefects()
