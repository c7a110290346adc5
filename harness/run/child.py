"""Child processes that die with us: own process group, a pipe whose end tells them that we are gone.

A child watches its standard input; when we end, even by SIGKILL, the pipe closes and the child ends its own tree.
On a normal end we ask first (SIGTERM), wait, and kill what is left of the group.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

STOP_GRACE_S = 10.0
LINE_LIMIT_BYTES = 1 << 20


@asynccontextmanager
async def child_process(
    command: Sequence[str], log: Path, cwd: Path | None = None, grace_s: float = STOP_GRACE_S
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `command` with piped stdin and stdout, stderr appended to `log`; gone when the block ends."""
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=cwd,
            start_new_session=True,
            limit=LINE_LIMIT_BYTES,
        )
    try:
        yield process
    finally:
        await asyncio.shield(asyncio.ensure_future(end_group(process, grace_s)))


async def read_lines(process: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    """The lines a child prints, until it closes its output. One of more than LINE_LIMIT_BYTES is left out, or its end
    comes as a line: it does not keep the child from being heard.
    """
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:
            continue
        if not line:
            return
        yield line


async def end_group(process: asyncio.subprocess.Process, grace_s: float) -> None:
    """End the process and its group: close the pipe, SIGTERM, wait `grace_s`, SIGKILL."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(grace_s):
            await process.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def log_tail(log: Path, lines: int = 5) -> str:
    """The last lines of a log, for an error message; empty when there is none."""
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
