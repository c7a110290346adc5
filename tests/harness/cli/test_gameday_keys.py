"""What the keys of a game day do to faults whose process hangs."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from rich.console import Console

from chaos.faults.pause import PausePlan
from chaos.ledger import LedgerRow, open_faults
from chaos.processes import STOPPED, Identity, read_state
from chaos.switch import Switch
from harness.cli import gameday
from harness.record.run_directory import RunDirectory
from harness.run.by_hand import ByHand
from harness.run.ending import Ending


class Day:
    """A game day without its load: a pseudo-terminal, the ledger, and what the keys act on."""

    def __init__(self, folder, monkeypatch):
        self.operator, self.program = pty.openpty()
        monkeypatch.setattr(sys, "stdin", os.fdopen(self.program, "r", closefd=False))
        self.run = RunDirectory(folder / "runs" / "day").create()
        self.ending, self.said = Ending(), io.StringIO()
        self.request, self.by_hand = SimpleNamespace(out=self.run.path), ByHand(self.run)

    async def execute(self):
        await self.ending.wait_until(1 << 62)

    def begin(self):
        execution: Any = self
        return asyncio.create_task(gameday.led(execution, Console(file=self.said, width=200)))

    def press(self, key):
        os.write(self.operator, key.encode())

    def close(self):
        sys.stdin.close()
        os.close(self.program)
        os.close(self.operator)


def identity(process: subprocess.Popen[bytes]) -> Identity:
    state = read_state(process.pid)
    assert state is not None
    return state.identity


async def wait_until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - states of processes and files, no event
            await asyncio.sleep(0.01)


@pytest.fixture
def day(tmp_path, monkeypatch):
    made = Day(tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def sleepers():
    """A process to be paused, and one that lives but does nothing: as an injecting process that hangs."""
    processes = [subprocess.Popen(["sleep", "60"], process_group=0) for _ in range(2)]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def fault(kind: str, target: Identity, writer: Identity) -> bytes:
    plan = msgspec.to_builtins(PausePlan(target, (target,)))
    return msgspec.json.encode(LedgerRow(row="open", id="h1", kind=kind, handle="us.jobs", plan=plan, writer=writer))


async def test_f_undoes_a_fault_whose_process_hangs(day, sleepers):
    paused, hangs = map(identity, sleepers)
    os.kill(paused.pid, signal.SIGSTOP)
    await wait_until(lambda: read_state(paused.pid).state == "T")
    day.run.ledger.write_bytes(fault("pause", paused, hangs) + b"\n")
    session = day.begin()
    day.press("f")
    await wait_until(lambda: not open_faults(day.run.ledger))
    assert read_state(paused.pid).state not in STOPPED
    assert Switch(day.run.path.parent).reason == gameday.FORBIDDEN
    assert not session.done()
    day.press("q")
    await asyncio.wait_for(session, 10)


async def test_f_says_what_could_not_be_undone_and_the_day_goes_on(day, sleepers):
    target, hangs = map(identity, sleepers)
    day.run.ledger.write_bytes(fault("unheard-of", target, hangs) + b"\n")
    session = day.begin()
    day.press("f")
    await wait_until(lambda: "h1 (unheard-of on us.jobs)" in day.said.getvalue())
    assert not session.done()
    day.press("q")
    await asyncio.wait_for(session, 10)
