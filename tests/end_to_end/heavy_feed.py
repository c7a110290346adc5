"""The in-memory feed, but a read takes processor time, or time alone: `heavy_feed.py BURN_MS WAIT_MS [options]`."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))

import memory_feed

BURN_S, WAIT_S = (float(word) / 1000 for word in sys.argv[1:3])
_read = memory_feed.Server.read


async def read(self, request):
    """A page, after working and waiting."""
    until_s = time.thread_time() + BURN_S
    while time.thread_time() < until_s:
        pass
    await asyncio.sleep(WAIT_S)
    return await _read(self, request)


memory_feed.Server.read = read

if __name__ == "__main__":
    asyncio.run(memory_feed.main(memory_feed.parser().parse_args(sys.argv[3:])))
