"""The search for the highest load at which everything a scenario expects holds: where to step next, and when it is
found. Pure: a step is made elsewhere, and comes back as an answer.

    1 grow by a factor until a level fails (or, when the first one fails, shrink until one holds)
    2 halve the interval between the highest that held and the lowest that failed, on a log scale, to the tolerance
    3 repeat both: the lower one has to hold each time, the upper one to fail most of the times

A level is judged by its majority, so one unlucky run does not lead astray: what turns over when it is repeated sends
the search back to 2. A level that holds most times but not each time *wavers*: it lies inside the interval, which is
then wider than the tolerance, as the truth is. A level that cannot be judged (the load did not come as asked, or
the machine was too noisy) is no failure of the target: nothing is known from there on, the search goes on below it, and
an interval that ends there is no capacity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import comb, inf

import msgspec

from harness.core.verdict import CheckKind, Outcome, Verdict

CONFIDENCE = 0.95
UNCLEAR_TRIES = 2
"""so often, and twice as often as it could, a level cannot be judged before it is given up"""
MOST_STEPS = 100
DIGITS = 4
"""of a factor"""


class Answer(StrEnum):
    """What one step says of its level."""

    HELD = "held"
    FAILED = "failed"
    SATURATED = "saturated"
    """the load did not come as asked: nothing is known of the target"""
    NOISY = "noisy"
    """the machine was"""
    UNDECIDED = "undecided"
    """a check could not decide, for a reason that no other level changes"""


UNCLEAR_WORDS = {
    Answer.SATURATED: "the load could not be made as asked",
    Answer.NOISY: "the machine is too noisy to tell",
    Answer.UNDECIDED: "a check cannot decide",
}


class Level(msgspec.Struct, kw_only=True):
    """All steps at one factor."""

    factor: float
    held: int = 0
    failed: int = 0
    unclear: int = 0
    why: Answer | None = None
    """of the last unclear one"""

    @property
    def votes(self) -> int:
        """Steps that say something of the target."""
        return self.held + self.failed

    @property
    def holds(self) -> bool:
        """Most times."""
        return self.held > self.failed and not self.is_given_up

    @property
    def fails(self) -> bool:
        """Most times."""
        return self.failed > self.held and not self.is_given_up

    @property
    def is_given_up(self) -> bool:
        """Whether it cannot be judged."""
        return self.unclear >= UNCLEAR_TRIES + 2 * self.votes

    @property
    def wavers(self) -> bool:
        """Holds, but not each time."""
        return self.holds and self.failed > 0


@dataclass(frozen=True)
class Search:
    """How to search. Factors are on what the scenario says."""

    start: float = 1.0
    growth: float = 2.0
    tolerance: float = 0.1
    """the lowest that fails is at most that share above the highest that holds"""
    repeats: int = 3
    """steps at each of the two"""
    least: float = 1 / 32
    """of `start`: where a search downwards ends"""
    most: float = inf
    """largest factor there can be"""


class Interval(msgspec.Struct, kw_only=True, frozen=True):
    """What is known. `found`: both ends are there, close enough, and confirmed."""

    found: bool = False
    reason: str = ""
    """why it ended before it was found"""
    held: Level | None = None
    """the highest at which each step held"""
    failed: Level | None = None
    """the lowest above it at which most failed"""
    unclear: Level | None = None
    """the lowest above it that could not be judged, when that is below `failed`"""
    wavering: list[Level] = []
    """between the ends: held most times, but not each time"""


@dataclass
class Steps:
    """The steps made so far, by level."""

    search: Search
    levels: dict[float, Level] = field(default_factory=dict)
    made: int = 0

    def add(self, factor: float, answer: Answer) -> None:
        """One more step."""
        level = self.levels.setdefault(factor, Level(factor=factor))
        self.made += 1
        match answer:
            case Answer.HELD:
                level.held += 1
            case Answer.FAILED:
                level.failed += 1
            case _:
                level.unclear, level.why = level.unclear + 1, answer

    @property
    def next(self) -> float | Interval:
        """The factor of the next step, or the result."""
        if self.made >= MOST_STEPS:
            return self.interval(f"{MOST_STEPS} steps were not enough")
        for level in self._ascending:
            if level.is_given_up and level.why is Answer.UNDECIDED:
                return self.interval(UNCLEAR_WORDS[Answer.UNDECIDED])
            if not (level.holds or level.fails or level.is_given_up):
                return level.factor
        return self._outwards() or self._inwards() or self._confirming()

    def interval(self, reason: str = "") -> Interval:
        """What is known so far; `reason`: why the search ends here although it is not found."""
        top, base = self._top, self._base
        above = [level for level in self._ascending if base is None or level.factor > base.factor]
        failed = next((level for level in above if level.fails), None)
        return Interval(
            found=not reason and failed is not None and failed is top and base is not None,
            reason=reason,
            held=base,
            failed=failed,
            unclear=top if top is not None and top.is_given_up else None,
            wavering=[level for level in above if level.wavers and (top is None or level.factor < top.factor)],
        )

    @property
    def _ascending(self) -> list[Level]:
        return [self.levels[factor] for factor in sorted(self.levels)]

    @property
    def _top(self) -> Level | None:
        """The lowest level that fails, or that cannot be judged."""
        return next((level for level in self._ascending if level.fails or level.is_given_up), None)

    @property
    def _below(self) -> list[Level]:
        """What holds below the top, ascending."""
        top = self._top
        return [level for level in self._ascending if level.holds and (top is None or level.factor < top.factor)]

    @property
    def _base(self) -> Level | None:
        """The highest below the top that held each time."""
        firm = [level for level in self._below if not level.wavers]
        return firm[-1] if firm else None

    def _outwards(self) -> float | Interval | None:
        """While one end is missing."""
        search, top, below = self.search, self._top, self._below
        if top is None:
            if not below:
                return rounded(min(search.start, search.most))
            if below[-1].factor >= search.most:
                return self.interval("it holds at the most that the scenario permits")
            return min(rounded(below[-1].factor * search.growth), search.most)
        if not below:
            lower = rounded(top.factor / search.growth)
            if lower < search.start * search.least:
                why = UNCLEAR_WORDS[top.why] if top.is_given_up and top.why else "it fails"
                return self.interval(f"{why} even at {top.factor:g} times what the scenario asks for")
            return lower
        return None

    def _inwards(self) -> float | None:
        """While the ends are too far apart, or what is between the firm one and the next wavers."""
        top, base, below = self._top, self._base, self._below
        assert top is not None
        if middle := self._between(below[-1].factor, top.factor):
            return middle
        upper = next((level for level in below if level.wavers and (base is None or level.factor > base.factor)), top)
        if base is None:
            return rounded(upper.factor / self.search.growth)
        return self._between(base.factor, upper.factor)

    def _between(self, lower: float, upper: float) -> float | None:
        """Half way on a log scale; None when they are close enough."""
        middle = rounded((lower * upper) ** 0.5)
        return middle if upper / lower > 1 + self.search.tolerance and lower < middle < upper else None

    def _confirming(self) -> float | Interval:
        """Repeat the ends, by turns: what drifts over time meets both."""
        ends = [level for level in (self._base, self._top) if level is not None and not level.is_given_up]
        few = [level for level in ends if level.votes < self.search.repeats]
        if few:
            return min(few, key=lambda level: level.votes).factor
        top = self._top
        return self.interval(UNCLEAR_WORDS[top.why] if top is not None and top.is_given_up and top.why else "")


def rounded(factor: float) -> float:
    """To as many digits as people read."""
    return float(f"{factor:.{DIGITS}g}")


def answer_of(verdict: Verdict) -> tuple[Answer, str]:
    """What a run says of its level, and on what it was decided. A generator at its end comes before all else."""
    unsure = [check for check in verdict.checks if check.verdict is Outcome.INCONCLUSIVE and not check.skipped]
    if generator := [check for check in unsure if check.kind is CheckKind.GENERATOR]:
        return Answer.SATURATED, generator[0].reason
    if verdict.verdict is Outcome.PASS:
        return Answer.HELD, ""
    if verdict.verdict is Outcome.FAIL:
        failed = (check for check in verdict.checks if check.verdict is Outcome.FAIL and not check.skipped)
        return Answer.FAILED, ", ".join(dict.fromkeys(check.name for check in failed))
    noisy = [check for check in unsure if "the machine was noisy" in check.reason]
    told = (noisy or unsure)[:1]
    says = "; ".join(f"{check.name}: {check.reason}" for check in told)
    return (Answer.NOISY if noisy and len(noisy) == len(unsure) else Answer.UNDECIDED), says


def least_share(seen: int, of: int, confidence: float = CONFIDENCE) -> float:
    """The lower bound of Clopper and Pearson: a share under which `seen` or more of `of` would be seen too rarely.

    That is the p with P(X >= seen) = 1 - confidence, X binomial; all of n give (1 - confidence)^(1/n).
    """
    if seen <= 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(50):
        p = (low + high) / 2
        tail = sum(comb(of, k) * p**k * (1 - p) ** (of - k) for k in range(seen, of + 1))
        low, high = (p, high) if tail < 1 - confidence else (low, p)
    return low


def steps_of(search: Search, answers: Iterable[tuple[float, Answer]]) -> Steps:
    """Steps with these answers."""
    steps = Steps(search)
    for factor, answer in answers:
        steps.add(factor, answer)
    return steps


class Goodput(msgspec.Struct, kw_only=True, frozen=True):
    """What became of the ops that were due in a step, without its warm-up."""

    offered_per_s: float = 0.0
    good_per_s: float = 0.0
    """answered ok, each as asked"""
    events_per_s: float = 0.0
    """that listeners got"""
    refused: dict[str, int] = {}
    """status 429 or 503 -> how many"""

    @property
    def share(self) -> float:
        """Of what was offered, that was answered."""
        return self.good_per_s / self.offered_per_s if self.offered_per_s else 0.0


def mean_goodput(steps: Sequence[Goodput]) -> Goodput:
    """Over several steps at one level; refusals are summed."""
    if not steps:
        return Goodput()
    refused: dict[str, int] = {}
    for step in steps:
        for status, count in step.refused.items():
            refused[status] = refused.get(status, 0) + count
    count = len(steps)
    return Goodput(
        offered_per_s=sum(step.offered_per_s for step in steps) / count,
        good_per_s=sum(step.good_per_s for step in steps) / count,
        events_per_s=sum(step.events_per_s for step in steps) / count,
        refused=refused,
    )
