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
    labels: int = 0
    """bits of `events.Label`"""


class PostKey(NamedTuple):
    """Where a post stands in display order."""

    ts_us: int
    id: bytes
    author: int
    labels: int = 0
    """bits of `events.Label`"""


class StatusRow(NamedTuple):
    """Whether a post may show. The highest clock wins; DELETED wins over all."""

    id: bytes
    status: int
    hlc: int = 0


class StoredStatus(NamedTuple):
    """What is stored about one post's visibility."""

    author: int
    """-1: the post itself is not here"""
    ts_us: int
    status: int
    hlc: int
    hidden: bool
    """whether its author wants it hidden, also under a moderation"""


@dataclass
class ArchiveBatch:
    """What one transaction archives. A status holds whether it comes before or after its post."""

    posts: list[PostRow] = field(default_factory=list)
    statuses: list[StatusRow] = field(default_factory=list)
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

    def statuses(self, ids: Sequence[bytes]) -> Mapping[bytes, StoredStatus]:
        """What holds now for the posts among `ids` that are known."""

    def hidden(self, count: int) -> Sequence[tuple[bytes, int]]:
        """(id, author) of up to `count` posts that are not visible, newest first; author -1: not known."""

    def shown(self, count: int) -> Sequence[bytes]:
        """Up to `count` posts that may show again, those last that were shown first."""

    def close(self) -> None:
        """Release the files."""


class DurableReader(Protocol):
    """The api's side. Every call raises DurableUnavailable when there is no answer in time."""

    is_lacking: bool
    """the store was begun anew and is being filled: whatever is not found may exist"""

    async def posts(self, ids: Sequence[bytes]) -> dict[bytes, PostRow]:
        """The rows among `ids`, whatever their status."""

    async def statuses(self, ids: Sequence[bytes]) -> dict[bytes, StoredStatus]:
        """Where the posts among `ids` that are known stand."""

    async def newest(
        self, authors: Sequence[int], count: int, before: tuple[int, bytes] | None = None
    ) -> list[PostKey]:
        """Keys of the newest visible posts of these authors, newest first, behind the place (ts_us, id)."""

    async def close(self) -> None:
        """Release the files."""
