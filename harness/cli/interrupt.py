"""Ctrl-C, SIGTERM and SIGHUP become one orderly cancellation: every stage is undone, then exit code 130."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from harness.core.errors import InterruptedRun

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
T = TypeVar("T")


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; on one of STOPPING cancel, wait for the undo, and raise InterruptedRun."""
    return asyncio.run(_guarded(work))


async def _guarded(work: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    received: list[int] = []

    def stop(sig: int) -> None:
        if not received:
            task.cancel()
        received.append(sig)

    for sig in STOPPING:
        loop.add_signal_handler(sig, stop, sig)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            raise InterruptedRun("interrupted; everything was undone") from None
        raise
    finally:
        for sig in STOPPING:
            loop.remove_signal_handler(sig)
