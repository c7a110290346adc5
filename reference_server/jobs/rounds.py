"""Runs a job round after round, whatever fails: a job stalls while what it needs is away, and goes on afterwards."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable

from reference_server.queue import Backpressure, QueueUnavailable

_log = logging.getLogger(__name__)
FAILURES = (QueueUnavailable, Backpressure, sqlite3.Error)
RETRY_S = 0.5


async def until_done(name: str, step: Callable[[], Awaitable[None]]) -> None:
    """Try `step` until it succeeds."""
    while True:
        try:
            return await step()
        except FAILURES as error:
            _log.warning("%s: %s; trying again", name, error)
            await asyncio.sleep(RETRY_S)


async def for_ever(name: str, step: Callable[[], Awaitable[bool]], every_s: float) -> None:
    """Repeat `step`: at once when it says that more is waiting, else after `every_s`."""
    failing = False
    while True:
        try:
            more = await step()
            if failing:
                _log.info("%s: works again", name)
            failing = False
        except* FAILURES as errors:
            more = False
            if not failing:
                _log.warning("%s: %s", name, errors.exceptions[0])
            failing = True
        if not more:
            await asyncio.sleep(RETRY_S if failing else every_s)
