"""A search for capacity as people read it: a line a step, a table of levels, what was found, what was at its end."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.core.verdict import Outcome
from harness.judge.capacity import CONFIDENCE, Answer, Interval, Level, least_share
from harness.judge.found import Capacity, LevelRow, StepRow
from harness.judge.saturation import NEAR, Pressure
from harness.report.markdown import MARK as EMOJI
from harness.report.markdown import plain
from harness.report.suites import duration
from harness.report.terminal import MARK, STYLE

OUTCOME = {Answer.HELD: Outcome.PASS, Answer.FAILED: Outcome.FAIL}
SIGNS = 4


def outcome_of(capacity: Capacity) -> Outcome:
    """Found passes; all else is inconclusive: nothing here is wrong with the target."""
    return Outcome.PASS if capacity.interval.found else Outcome.INCONCLUSIVE


def amount_text(amount: float, unit: str) -> str:
    """As people read it: "272/s", "4,000 streams"."""
    return f"{amount:,.0f}{unit}" if amount >= 100 or amount == int(amount) else f"{amount:,.3g}{unit}"


def headline(capacity: Capacity) -> str:
    """What was found, in one sentence."""
    interval = capacity.interval
    ends = " and ".join(
        part
        for part in (
            f"{_level_text(interval.held, capacity)} held ({_times(interval.held.held, interval.held)})"
            if interval.held
            else "",
            f"{_level_text(interval.failed, capacity)} failed ({_times(interval.failed.failed, interval.failed)})"
            if interval.failed
            else "",
        )
        if part
    )
    name = f"{capacity.scenario}, {capacity.knob}"
    if interval.found:
        return f"{name}: {ends}."
    return f"{name}: no capacity found: {interval.reason or 'not confirmed'}{'; ' + ends if ends else ''}."


def confidence_sentence(interval: Interval) -> str:
    """What the numbers of steps at the ends say; empty: they are not confirmed."""
    if not (interval.found and interval.held and interval.failed):
        return ""
    holds = least_share(interval.held.held, interval.held.votes)
    fails = least_share(interval.failed.failed, interval.failed.votes)
    return (
        f"With {100 * CONFIDENCE:g} % confidence a step holds at the lower end more often than {100 * holds:.0f} % of "
        f"the time, and fails at the upper one more often than {100 * fails:.0f} %; more steps (--repeat) say more."
    )


def notes(capacity: Capacity) -> list[str]:
    """What a reader has to know beside the headline."""
    interval = capacity.interval
    found = [confidence_sentence(interval)] if interval.found else []
    if interval.wavering:
        levels = ", ".join(f"{_level_text(w, capacity)} ({_times(w.held, w)} held)" for w in interval.wavering)
        found.append(f"In between it wavers: {levels}.")
    if interval.unclear is not None:
        level = _level_text(interval.unclear, capacity)
        says = capacity.unclear_says or str(interval.unclear.why)
        found.append(f"{level} could not be judged: {'; '.join(filter(None, (says, capacity.held_up_by)))}.")
    return found


def saturation_sentences(capacity: Capacity) -> list[str]:
    """The first thing that saturates, with figures, and the next one; honest when nothing is near its limit."""
    if not capacity.pressures:
        return ["What was at its end is not known: nothing was measured, or nothing failed."]
    first, *others = capacity.pressures
    where = f"At {amount_text(capacity.pressures_at, capacity.unit)}"
    if first.used >= NEAR:
        told = [f"{where} the first at its limit is {first.part}: {_pressure(first)}."]
    else:
        told = [
            f"{where} nothing is near its limit; what fails waits for something else (a lock, a disk, a slower part). "
            f"Nearest: {first.part}: {_pressure(first)}."
        ]
    return told + [f"Next: {other.part}: {_pressure(other)}." for other in others[:1]]


def _pressure(pressure: Pressure) -> str:
    return "; ".join([pressure.says, *pressure.signs[:SIGNS]])


def _times(count: int, level: Level) -> str:
    return f"{count} of {level.votes}"


def _level_text(level: Level, capacity: Capacity) -> str:
    return f"{amount_text(capacity.one * level.factor, capacity.unit)} (x{level.factor:g})"


def print_plan(capacity: Capacity, console: Console) -> None:
    """What will be done, before the first step."""
    one = amount_text(capacity.one, capacity.unit)
    served = "one target serves several steps" if capacity.kept else "every step has a target of its own"
    said = f"{capacity.scenario}, {capacity.knob}: {one} is what it says; steps of {capacity.step_s:g} s; {served}"
    console.print(Text(said), soft_wrap=True)
    if capacity.left_out:
        console.print(Text(f"not asked of a step: {'; '.join(capacity.left_out)}", style="dim"), soft_wrap=True)


def print_step(row: StepRow, capacity: Capacity, console: Console) -> None:
    """The line of a step that has just ended."""
    outcome = OUTCOME.get(row.answer, Outcome.INCONCLUSIVE)
    amount = amount_text(row.amount, capacity.unit)
    mark = (f"{MARK[outcome]} step {row.number}: {amount} (x{row.factor:g}) {row.answer} ", STYLE[outcome])
    console.print(Text.assemble(mark, (f"{duration(row.took_s)}  {row.says}", "dim")), soft_wrap=True)


def print_capacity(capacity: Capacity, folder: str, console: Console) -> None:
    """The levels, and the result."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for column in ("", "level", "held", "failed", "unclear", "offered", "answered well", "refused", "what failed"):
        table.add_column(column, justify="left" if column in ("", "what failed") else "right")
    for row in capacity.levels:
        outcome = level_outcome(row)
        table.add_row(Text(MARK[outcome], style=STYLE[outcome]), *map(Text, cells(row, capacity)))
    console.print(table)
    outcome = outcome_of(capacity)
    word = "FOUND" if outcome is Outcome.PASS else outcome.upper()
    console.print(Text.assemble(f"{word} ", headline(capacity), style=STYLE[outcome]), soft_wrap=True)
    for sentence in (*notes(capacity), *saturation_sentences(capacity)):
        console.print(Text(sentence), soft_wrap=True)
    console.print(f"steps, capacity.json: {folder}", soft_wrap=True, markup=False)


def level_outcome(row: LevelRow) -> Outcome:
    """As the marks of checks: only what held each time passes."""
    if row.failed:
        return Outcome.FAIL if row.failed >= row.held else Outcome.INCONCLUSIVE
    return Outcome.PASS if row.held else Outcome.INCONCLUSIVE


def cells(row: LevelRow, capacity: Capacity) -> list[str]:
    """A row of the table, without its mark."""
    counts = [str(count) if count else "" for count in (row.held, row.failed, row.unclear)]
    good = row.goodput
    refused = ", ".join(f"{count:,} x {status}" for status, count in sorted(good.refused.items()))
    offered, answered = f"{good.offered_per_s:,.1f}/s", f"{good.good_per_s:,.1f}/s"
    return [amount_text(row.amount, capacity.unit), *counts, offered, answered, refused, ", ".join(row.troubles)]


def markdown(capacity: Capacity) -> str:
    """For the step summary of a CI job."""
    outcome = outcome_of(capacity)
    lines = [f"## {EMOJI[outcome]} {plain(headline(capacity))}", ""]
    lines += ["| | level | held | failed | unclear | offered | answered well | refused | what failed |"]
    lines += ["|---|--:|--:|--:|--:|--:|--:|--:|---|"]
    for row in capacity.levels:
        lines.append(f"| {EMOJI[level_outcome(row)]} | {' | '.join(map(plain, cells(row, capacity)))} |")
    lines += ["", *(plain(sentence) for sentence in (*notes(capacity), *saturation_sentences(capacity)))]
    return "\n".join(lines) + "\n"
