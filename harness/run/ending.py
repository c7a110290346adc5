"""When the phases of a run end: as planned, or before that, because a stop condition broke or somebody said so."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec

from chaos.switch import Switch
from harness.core.clock import NS_PER_S, now_ns
from harness.judge.case import StopReport
from harness.judge.expressions import Slo, Threshold
from harness.judge.slos import shown, shown_unit
from harness.load.plan import PlanPhase
from harness.record.run_directory import RunDirectory
from harness.run.live_slos import LiveValue, in_force, live_values
from harness.run.load_processes import LoadProcess, LoadProcesses

LOOK_EVERY_S = 0.25
"""load processes report once a second; each report is looked at this soon"""
SILENT_LOOKS = 12
"""looks, 3 s of them, at which a load process had nothing new to say: then nobody watches"""


class Ending:
    """The end of the phases. Whoever wants them to end now says why; the first one is heard."""

    def __init__(self) -> None:
        self.reason = ""
        self.at_ns = 0
        """monotonic; 0: not ended before the time"""
        self._wanted = asyncio.Event()

    @property
    def is_early(self) -> bool:
        """Whether somebody ended the phases before their time."""
        return self._wanted.is_set()

    def now(self, reason: str) -> None:
        """End the phases."""
        if not self.is_early:
            self.reason, self.at_ns = reason, now_ns()
            self._wanted.set()

    async def wait_until(self, end_ns: int) -> None:
        """Return at the planned end, or when somebody ends the phases before it."""
        try:
            async with asyncio.timeout(max(0.0, (end_ns - now_ns()) / NS_PER_S)):
                await self._wanted.wait()
        except TimeoutError:
            return


class StopWatch:
    """Looks at the stop conditions of a run, and at the switch that forbids faults.

    Conditions are of no use when a load process is lost or silent: that ends the run as well.
    """

    def __init__(
        self,
        conditions: Sequence[Slo],
        load: LoadProcesses,
        ending: Ending,
        switch: Switch | None,
        phases: Sequence[PlanPhase] = (),
        t0_ns: int = 0,
    ) -> None:
        """`switch`: thrown, it ends the run as well. `phases`: from `t0_ns`, for conditions that name one."""
        self._conditions, self._load, self._ending, self._switch = conditions, load, ending, switch
        self._phases, self._t0_ns = phases, t0_ns
        self._silence = [Silence(member) for member in load.members]
        self._looks = 0
        self._seen: Counter[str] = Counter()
        self._broken: LiveValue | None = None
        self._is_blind = False

    async def run(self, from_ns: int) -> None:
        """Look until something ends the phases; at the conditions from `from_ns` on."""
        while not self._ending.is_early:
            if self._switch is not None and (reason := self._switch.reason):
                self._ending.now(f"faults were stopped: {reason}")
            elif self._conditions and now_ns() >= from_ns:
                self._look()
            await asyncio.sleep(LOOK_EVERY_S)

    def _look(self) -> None:
        self._looks += 1
        offset_ns = now_ns() - self._t0_ns
        values = live_values([slo for slo in self._conditions if in_force(slo, self._phases, offset_ns)], self._load)
        self._seen.update(named(value.slo, value.threshold) for value in values if value.value is not None)
        broken = [value for value in values if value.is_broken]
        problems = [problem for silence in self._silence if (problem := silence.look())]
        if broken:
            self._broken = broken[0]
            name = named(broken[0].slo, broken[0].threshold)
            self._ending.now(f"{name}: {broken[0].text} of {broken[0].ops} ops in the last seconds")
        elif problems:
            self._is_blind = True
            self._ending.now(f"{problems[0]}: nobody watched the stop conditions any more")

    def report(self, run: RunDirectory, by_operator: bool) -> None:
        """Write stop.json, for the judge; nothing when there was nothing to look at and nothing ended early."""
        report = StopReport(
            conditions=[named(slo, threshold) for slo in self._conditions for threshold in slo.thresholds],
            looks=self._looks,
            seen=dict(self._seen),
            ended_ns=self._ending.at_ns or None,
            reason=self._ending.reason,
            by_operator=by_operator and not self._is_blind,
        )
        if self._broken is not None and self._broken.value is not None:
            threshold = self._broken.threshold
            report.broken, report.unit = named(self._broken.slo, threshold), shown_unit(threshold)
            report.value, report.bound = shown(threshold, self._broken.value), shown(threshold, threshold.bound)
        if report.conditions or self._ending.is_early:
            run.stop.write_bytes(msgspec.json.encode(report))


def named(slo: Slo, threshold: Threshold) -> str:
    """A stop condition as the verdict calls it."""
    phase = slo.tags.get("phase")
    return f"{slo.selector} {threshold.text}" + (f" in {phase}" if phase else "")


class Silence:
    """How long one load process has said nothing, in looks: time that the harness itself is stopped does not count."""

    def __init__(self, member: LoadProcess) -> None:
        self._member, self._status, self._looks = member, member.status, 0

    def look(self) -> str:
        """What is wrong with the process; empty: nothing, or it is done."""
        if self._member.state == "lost":
            return f"load process {self._member.name} was lost"
        self._looks = self._looks + 1 if self._member.status is self._status else 0
        self._status = self._member.status
        if self._looks < SILENT_LOOKS or self._member.state == "done":
            return ""
        return f"load process {self._member.name} has said nothing for {self._looks * LOOK_EVERY_S:.0f} s"
