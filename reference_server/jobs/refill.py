"""A damaged archive is moved aside and a new one begun: filled from the queue, the history, and a peer region.

The queue has what no lane or archiver has passed yet; everything else comes page by page from the first peer that
answers, over the link between the replicators. How far that is stands in the new archive, so a restart goes on there.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import Counter

from reference_server import sqlite_files
from reference_server.durable import ArchiveBatch
from reference_server.durable.archive_pages import REFILL, REFILLED, ArchivedRow, batch_of
from reference_server.durable.sqlite_writer import SqliteWriter
from reference_server.jobs.store import Store
from reference_server.replication.wire import (
    SILENCE_S,
    ArchivePage,
    ProtocolViolation,
    frame,
    make_archive_hello,
    receive,
)

CHECK_BELOW_BYTES = 1 << 30
"""a larger archive is not read through at start: damage further in shows when it is met, which ends the process"""
PAGE_LIMIT_S = 10.0
RETRY_S = 2.0
_log = logging.getLogger(__name__)
_DAMAGED = Counter("feed_archive_damaged", "Starts that found the durable store damaged")
_REFILLED = Counter("feed_archive_refilled_posts", "Posts that came from a peer's archive")


def open_archive(path: Path) -> SqliteWriter:
    """The archive at `path`; a damaged one is moved aside, and the new one is to be refilled. Raises sqlite3.Error."""
    fresh = Path(f"{path}.fresh")
    damage = sqlite_files.damage_of(path, CHECK_BELOW_BYTES)
    if damage:
        _DAMAGED.inc()
        _log.error("%s is damaged (%s): moved aside, filled anew from queue, history and peers", path.name, damage)
        writer = SqliteWriter(fresh)  # says from its first moment on that it is not complete
        writer.archive(ArchiveBatch(positions={REFILL: ""}))
        writer.close()
        sqlite_files.set_aside(path)
    if fresh.exists() and not path.exists():
        fresh.replace(path)
    return SqliteWriter(path)


class Refill:
    """Gets from the peers what a new archive lacks."""

    def __init__(self, store: Store, region: str, peers: Mapping[str, int], secret: bytes) -> None:
        """`peers`: region -> port of the link to its replicator."""
        self._store = store
        self._region = region
        self._peers = peers
        self._secret = secret

    async def run(self) -> None:
        """Get everything. Returns when nothing is lacking, or there is nobody to ask. Raises DurableDamaged."""
        while self._peers:
            try:
                if await self._ask_all():
                    return
            except sqlite3.Error as error:
                _log.warning("refilling the archive: %s; trying again", error)
            await asyncio.sleep(RETRY_S)

    async def _ask_all(self) -> bool:
        """Whether nothing is lacking any more, after asking the peers one after the other. Raises sqlite3.Error."""
        for peer, port in self._peers.items():
            position = (await self._store.positions()).get(REFILL, REFILLED)
            if position == REFILLED:
                return True
            try:
                await self._pull(peer, port, bytes.fromhex(position))
                _log.info("archive complete: the rest came from %s", peer)
                return True
            except (OSError, EOFError, TimeoutError) as error:
                _log.info("archive of %s: %r", peer, error)
        return False

    async def _pull(self, peer: str, port: int, after: bytes) -> None:
        async with asyncio.timeout(SILENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(frame(make_archive_hello(self._secret, peer, self._region, after)))
            last = False
            while not last:
                page = await receive(reader, PAGE_LIMIT_S)
                if not isinstance(page, ArchivePage):
                    raise ProtocolViolation(f"unexpected {type(page).__name__}")
                last = page.last
                await self._keep(page.rows, last)
        finally:
            writer.transport.abort()

    async def _keep(self, rows: list[ArchivedRow], last: bool) -> None:
        batch = batch_of(rows)
        if rows or last:
            batch.positions = {REFILL: REFILLED if last else rows[-1].id.hex()}
            await self._store.archive(batch)
        _REFILLED.inc(len(batch.posts))
