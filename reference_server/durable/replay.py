"""What a lane that lost its log asks of the durable store. Calls block: use a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class DurableDamaged(ValueError):
    """The store's files cannot be read, now or later."""


class ArchivedPost(NamedTuple):
    """What a timeline needs of a post at rest."""

    id: bytes
    author: int
    """-1: only the status of a post that is still on its way"""
    ts_us: int
    status: int
    """a `timeline.entry.Status` number"""
    status_hlc: int
    labels: int


class DurableReplay(Protocol):
    """A pass over the archive. Every call raises DurableUnavailable (try again) or DurableDamaged."""

    def positions(self) -> Mapping[str, str]:
        """stream -> id up to which it is archived."""

    def posts(self, after: bytes, not_before_us: int, count: int) -> Sequence[ArchivedPost]:
        """Up to `count` posts with ids above `after` and times from `not_before_us` on, ascending by id."""

    def has_posts(self, after: bytes, not_before_us: int) -> bool:
        """Whether there are any such."""

    def has_older(self, than: bytes, not_before_us: int) -> bool:
        """Whether there are posts with ids below `than` and times from `not_before_us` on."""

    def close(self) -> None:
        """Release the files."""
