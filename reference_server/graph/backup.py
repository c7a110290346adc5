"""A copy of graph.db, so that a damaged one costs nothing: the copy, and the graph stream from there on, make it anew.

The stream is trimmed below the position of the newest copy, never above it. A copy is made once a minute when something
changed, and earlier when the stream gets long; each is read back before it counts. Imports do not come by the stream:
those that were made behind the copy are asked for again (`Imports` of jobs, which begins where each stands).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import time
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram

from reference_server import sqlite_files
from reference_server.graph.store import GraphStore, stored_position

log = logging.getLogger(__name__)
EVERY_S = 60.0
EVERY_ENTRIES = 100_000
LOOK_EVERY_S = 1.0
REST_RATIO = 20.0
"""a copy is followed by a rest this many times as long as it took"""
COPY_SECONDS = Histogram("feed_graph_copy_seconds", "Time to copy and read back graph.db")
COPIED = Gauge("feed_graph_copied_seconds", "When graph.db was last copied (Unix seconds)")
DAMAGED = Counter("feed_graph_damaged", "Starts that found graph.db damaged, by what took its place", ["source"])


def copy_path(path: Path) -> Path:
    """Where the copy of a graph.db lies."""
    return path.with_name("graph.copy.db")


def open_store(path: Path) -> GraphStore:
    """The store at `path`; if it is damaged, made from its copy, or empty: the stream behind it is applied anew."""
    copied = copy_path(path)
    damage = sqlite_files.damage_of(path)
    if copied.exists() and not path.exists():
        damage = "the file is gone"
    if not damage:
        return GraphStore(path)
    sqlite_files.set_aside(path)
    source = "nothing"
    if copied.exists() and not sqlite_files.damage_of(copied):
        shutil.copyfile(copied, path)
        source = "copy"
    DAMAGED.labels(source).inc()
    store = GraphStore(path)
    store.existed = True  # follower pages of the earlier life may be out of date
    store.imports_lost = True
    log.error(
        "graph.db is damaged (%s): moved aside, made anew from %s, goes on behind %s of the graph stream",
        damage,
        "its copy" if source == "copy" else "the population alone",
        store.position(),
    )
    return store


class Backup:
    """Makes the copies. `position`: the stream may be trimmed below it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._copy = copy_path(path)
        self.position = "" if sqlite_files.damage_of(self._copy) else stored_position(self._copy)
        """"": there is no copy yet"""
        self._applied = 0
        self._copied_s = time.monotonic()
        self._rest_s = 0.0

    def applied(self, entries: int) -> None:
        """So many entries of the stream were applied and committed."""
        self._applied += entries

    async def run(self) -> None:
        """Make copies, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            waited_s = time.monotonic() - self._copied_s
            due = waited_s >= EVERY_S or self._applied >= EVERY_ENTRIES
            if self._applied and due and waited_s >= self._rest_s:
                await self.make()

    async def make(self) -> None:
        """Make one copy; when that fails, the one before it still counts."""
        began_s, applied = time.monotonic(), self._applied
        try:
            with COPY_SECONDS.time():
                self.position = await asyncio.to_thread(self._made)
            self._applied -= applied
            COPIED.set_to_current_time()
        except (sqlite3.Error, OSError) as error:
            log.error("graph.db was not copied: %s", error)
        self._copied_s = time.monotonic()
        self._rest_s = REST_RATIO * (self._copied_s - began_s)

    def _made(self) -> str:
        """The position in the new copy."""
        fresh = self._copy.with_suffix(".new")
        sqlite_files.copy(self._path, fresh)
        if damage := sqlite_files.damage_of(fresh):
            raise sqlite3.DatabaseError(f"the copy is damaged: {damage}")
        position = stored_position(fresh)
        fresh.replace(self._copy)
        return position
