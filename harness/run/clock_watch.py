"""How the clocks of a run's load processes differ from ours: asks over the control channel, writes clocks.jsonl.

A process that shares our clock is asked once, and tells so. Any other is asked many times before load begins, for a
first offset, and once a second from then on, because clocks drift. `harness.record.clocks` works the offsets out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core.clock import now_ns
from harness.core.errors import UnavailableError
from harness.record.clocks import Clock, Reading, clock_name, fit, write_clocks
from harness.record.run_directory import RunDirectory

FIRST_READINGS = 20
EVERY_S = 1.0
TIMEOUT_S = 10.0


@dataclass
class ProcessClock:
    """One process's clock and what it answered so far."""

    process: str
    send: Callable[[dict[str, Any]], None]
    """sends the process a command"""
    clock: Clock = field(init=False)
    readings: list[Reading] = field(default_factory=list)
    _answered: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.clock = Clock(process=self.process, machine="")

    @property
    def is_ours(self) -> bool:
        """Whether it is this process's clock too."""
        return self.clock.machine == clock_name()

    def ask(self) -> None:
        """Ask it the time."""
        self._answered.clear()
        self.send({"cmd": "clock", "sent_ns": now_ns()})

    def take(self, answer: dict[str, Any], back_ns: int) -> None:
        """An answer, of `harness.load.clock_answer`, that came at `back_ns`."""
        if not self.readings:
            self.clock = Clock(process=self.process, machine=str(answer["machine"]))
        self.readings.append(Reading(answer["sent_ns"], answer["received_ns"], answer["replied_ns"], back_ns))
        self._answered.set()

    async def wait_answer(self) -> None:
        """Raises UnavailableError when the answer does not come."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._answered.wait()
        except TimeoutError as error:
            raise UnavailableError(f"load process {self.process} does not tell its time") from error


class ClockWatch:
    """The clocks of all load processes of a run."""

    def __init__(self, run: RunDirectory, clocks: Sequence[ProcessClock]) -> None:
        self._run, self._clocks = run, clocks

    async def begin(self) -> None:
        """Know every clock before load begins. Raises UnavailableError when a process does not tell its time."""
        for clock in self._clocks:
            clock.ask()
            await clock.wait_answer()
            while not clock.is_ours and len(clock.readings) < FIRST_READINGS:
                clock.ask()
                await clock.wait_answer()
        self.write()

    def write(self) -> None:
        """Work all offsets out from the answers so far, and write them down. Processes of one machine share theirs."""
        others = [clock for clock in self._clocks if not clock.is_ours]
        by_machine: dict[str, list[Reading]] = {}
        for clock in others:
            by_machine.setdefault(clock.clock.machine, []).extend(clock.readings)
        for clock in others:
            clock.clock = fit(clock.process, clock.clock.machine, by_machine[clock.clock.machine])
        write_clocks(self._run.clocks, [clock.clock for clock in self._clocks])

    async def run(self) -> None:
        """Go on asking those whose clock is not ours, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            for clock in self._clocks:
                if not clock.is_ours:
                    clock.ask()
