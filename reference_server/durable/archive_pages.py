"""The whole archive, page by page in order of ids: what a region hands to another that lost its own. Calls block."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import msgspec

from reference_server.durable.protocol import ArchiveBatch, PostRow, StatusRow
from reference_server.timeline.entry import Status

REFILL, REFILLED = "refill", "done"
"""position of an archive that was begun anew: id (hex) up to which it came from a peer, then "done" """
_PAGE = """
SELECT id, author, ts_us, text, reply_to, status, status_hlc, hidden, labels FROM posts WHERE id > ? ORDER BY id LIMIT ?
"""


def is_lacking(positions: Mapping[str, str]) -> bool:
    """Whether an archive with these positions was begun anew, and lacks what it has not got from a peer yet."""
    return positions.get(REFILL, REFILLED) != REFILLED


class ArchivedRow(msgspec.Struct, array_like=True, frozen=True):
    """All that is stored of one post; author -1: only the status of one that is on its way."""

    id: bytes
    author: int
    ts_us: int
    text: str
    reply_to: bytes
    status: int
    status_hlc: int
    hidden: int
    labels: int


class ArchivePages:
    """Reads a region's `durable.db`."""

    def __init__(self, path: Path) -> None:
        """Raises sqlite3.Error."""
        self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False, timeout=1.0)

    def is_whole(self) -> bool:
        """Whether nothing is lacking. Raises sqlite3.Error."""
        return not is_lacking(dict(self._db.execute("SELECT stream, position FROM positions")))

    def page(self, after: bytes, count: int) -> list[ArchivedRow]:
        """Up to `count` rows with ids above `after`. Raises sqlite3.Error."""
        return [ArchivedRow(*row) for row in self._db.execute(_PAGE, (after, count))]

    def close(self) -> None:
        """Release the files."""
        self._db.close()


def batch_of(rows: list[ArchivedRow]) -> ArchiveBatch:
    """The rows as something to archive; what is known already of a post wins where it is later."""
    batch = ArchiveBatch()
    for row in rows:
        if row.author >= 0:
            batch.posts.append(PostRow(row.id, row.author, row.ts_us, row.text, row.reply_to, labels=row.labels))
        if row.hidden and row.status == Status.MODERATED:
            batch.statuses.append(StatusRow(row.id, Status.HIDDEN_BY_AUTHOR, row.status_hlc - 1))
        if row.status != Status.VISIBLE or row.status_hlc:
            batch.statuses.append(StatusRow(row.id, row.status, row.status_hlc))
    return batch
