"""What a search for capacity found: its steps, its levels, the interval, and what was nearest to its limit. Pure."""

from __future__ import annotations

import msgspec

from harness.judge.capacity import Answer, Goodput, Interval, Level, mean_goodput
from harness.judge.saturation import Pressure, who_held_up


class StepRow(msgspec.Struct, kw_only=True):
    """One step."""

    number: int
    factor: float
    amount: float
    """in the unit of the search"""
    answer: Answer
    says: str = ""
    """what failed, or why it could not be judged"""
    run: str
    """its directory, within that of the search"""
    took_s: float = 0.0
    goodput: Goodput = Goodput()
    pressures: list[Pressure] = []
    """the nearest to its limit first"""


class LevelRow(msgspec.Struct, kw_only=True):
    """All steps at one level."""

    factor: float
    amount: float
    held: int = 0
    failed: int = 0
    unclear: int = 0
    goodput: Goodput = Goodput()
    """mean of its steps"""
    troubles: list[str] = []
    """what failed in them, once each"""


class Capacity(msgspec.Struct, kw_only=True):
    """A search so far, as capacity.json holds it."""

    scenario: str
    seed: int
    target: str
    knob: str
    unit: str
    one: float
    """amount of the factor 1"""
    tolerance: float
    repeats: int
    step_s: float
    left_out: list[str] = []
    """expectations of the scenario that a step is not asked"""
    kept: bool = False
    """whether one target served several steps"""
    interval: Interval = Interval()
    levels: list[LevelRow] = []
    steps: list[StepRow] = []
    pressures: list[Pressure] = []
    """at the lowest level that failed or could not be judged, the nearest to its limit first"""
    pressures_at: float = 0.0
    """amount of that level"""
    unclear_says: str = ""
    """of the level at which the interval ends because it could not be judged: why"""
    held_up_by: str = ""
    """the same when its load did not come as asked: by whom"""

    def conclude(self, interval: Interval) -> None:
        """Take what is known from the steps so far."""
        self.interval = interval
        self.levels = levels_of(self.steps)
        end = interval.unclear or interval.failed
        there = [step for step in self.steps if end is not None and step.factor == end.factor]
        telling = [step for step in there if step.answer is not Answer.HELD and step.pressures]
        self.pressures, self.pressures_at = (telling[0].pressures, telling[0].amount) if telling else ([], 0.0)
        self.unclear_says = unclear_says(self.steps, interval.unclear)
        is_load = interval.unclear is not None and interval.unclear.why is Answer.SATURATED
        self.held_up_by = who_held_up(self.pressures) if is_load and self.pressures else ""


def unclear_says(steps: list[StepRow], level: Level | None) -> str:
    """Why the last unclear step of a level could not be judged."""
    if level is None:
        return ""
    said = [s.says for s in steps if s.factor == level.factor and s.answer not in (Answer.HELD, Answer.FAILED)]
    return said[-1] if said else ""


def levels_of(steps: list[StepRow]) -> list[LevelRow]:
    """The steps by level, ascending."""
    rows = []
    for factor in sorted({step.factor for step in steps}):
        there = [step for step in steps if step.factor == factor]
        answers = [step.answer for step in there]
        held, failed = answers.count(Answer.HELD), answers.count(Answer.FAILED)
        said = [name for step in there if step.answer is Answer.FAILED for name in step.says.split(", ")]
        rows.append(
            LevelRow(
                factor=factor,
                amount=there[0].amount,
                held=held,
                failed=failed,
                unclear=len(there) - held - failed,
                goodput=mean_goodput([step.goodput for step in there]),
                troubles=list(dict.fromkeys(said)),
            )
        )
    return rows
