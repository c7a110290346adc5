"""What the rest of the stack asks of a durable store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class DurableUnavailable(ConnectionError):
    """The store gave no usable answer in time."""


class PostRow(NamedTuple):
    """A post at rest. `status` is a `timeline.entry.Status` number."""

    id: bytes
    author: int
    ts_us: int
    text: str
    reply_to: bytes
    status: int = 0


class PostKey(NamedTuple):
    """Where a post stands in display order."""

    ts_us: int
    id: bytes
    author: int


@dataclass
class ArchiveBatch:
    """What one transaction archives. A status holds for good, whether it comes before or after its post."""

    posts: list[PostRow] = field(default_factory=list)
    statuses: list[tuple[bytes, int]] = field(default_factory=list)
    """(post id, status)"""
    positions: dict[str, str] = field(default_factory=dict)
    """stream -> id up to which it is archived"""


class DurableWriter(Protocol):
    """The archiver's side: one process, one thread."""

    def archive(self, batch: ArchiveBatch) -> None:
        """Store the batch as a whole; durable (synced to disk) on return. Repeating it changes nothing."""

    def prefill(self, rows: Iterable[PostRow]) -> int:
        """Insert the posts of the time before the start, once: later calls insert nothing. Returns rows inserted."""

    def positions(self) -> Mapping[str, str]:
        """Stored positions."""

    def hidden(self, count: int) -> Sequence[tuple[bytes, int]]:
        """(id, author) of up to `count` posts that are not visible, newest first; author -1: not known."""

    def close(self) -> None:
        """Release the files."""


class DurableReader(Protocol):
    """The api's side. Every call raises DurableUnavailable when there is no answer in time."""

    async def posts(self, ids: Sequence[bytes]) -> dict[bytes, PostRow]:
        """The rows among `ids`, whatever their status."""

    async def newest(self, authors: Sequence[int], count: int) -> list[PostKey]:
        """Keys of the newest visible posts of these authors, newest first."""

    async def close(self) -> None:
        """Release the files."""
