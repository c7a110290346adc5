"""The durable store as the jobs use it: one writer, one thread, never on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from reference_server.durable import ArchiveBatch, DurableWriter, PostRow, StoredStatus


class Store:
    """Async face of a DurableWriter; calls run one after the other."""

    def __init__(self, writer: DurableWriter) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="durable")

    async def archive(self, batch: ArchiveBatch) -> None:
        """See DurableWriter."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.archive, batch)

    async def prefill(self, rows: Iterable[PostRow]) -> int:
        """See DurableWriter."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.prefill, rows)

    async def positions(self) -> Mapping[str, str]:
        """See DurableWriter."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.positions)

    async def statuses(self, ids: Sequence[bytes]) -> Mapping[bytes, StoredStatus]:
        """See DurableWriter."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.statuses, ids)

    async def hidden(self, count: int) -> Sequence[tuple[bytes, int]]:
        """See DurableWriter."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.hidden, count)

    async def shown(self, count: int) -> Sequence[bytes]:
        """See DurableWriter."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.shown, count)

    async def close(self) -> None:
        """Finish the call under way, close the writer."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.close)
        self._thread.shutdown()
