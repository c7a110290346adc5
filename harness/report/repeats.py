"""Several runs of one scenario as people read them: in the terminal, and in Markdown for the step summary."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.core.verdict import Outcome
from harness.judge.repeats import CheckRate, Repeats
from harness.report.markdown import MARK as EMOJI
from harness.report.markdown import plain
from harness.report.terminal import MARK, STYLE


def outcome_of(rate: CheckRate) -> Outcome:
    """The worst that a check was."""
    if rate.failed:
        return Outcome.FAIL
    return Outcome.INCONCLUSIVE if rate.inconclusive else Outcome.PASS


def rate_text(rate: CheckRate) -> str:
    """How often it passed: "9 of 10"; "skipped" when no run judged it."""
    return f"{rate.passed} of {rate.judged}" if rate.judged else "skipped"


def headline(repeats: Repeats) -> str:
    """The runs in one sentence."""
    passed = sum(run.verdict is Outcome.PASS for run in repeats.runs)
    always = sum(rate.judged > 0 and rate.passed == rate.judged for rate in repeats.checks)
    judged = sum(rate.judged > 0 for rate in repeats.checks)
    missing = repeats.wanted - len(repeats.runs)
    words = f"{repeats.scenario}: {passed} of {len(repeats.runs)} runs passed; {always} of {judged} checks in all"
    return f"{words}; {missing} runs were not made: {repeats.ended}." if missing else f"{words}."


def print_repeats(repeats: Repeats, console: Console) -> None:
    """Print a line a run, the checks that did not pass in each, and the verdict in a line."""
    for number, run in enumerate(repeats.runs, start=1):
        mark = Text(f"{MARK[run.verdict]} run {number} ", style=STYLE[run.verdict])
        console.print(Text.assemble(mark, (run.run, "dim"), f"  {', '.join(run.troubles)}"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for column in ("", "check", "phase", "passed", "failed", "inconclusive"):
        table.add_column(column, justify="right" if column in ("passed", "failed", "inconclusive") else "left")
    for rate in repeats.checks:
        style = STYLE[outcome_of(rate)] if rate.judged else "dim"
        counts = [str(count) if count else "" for count in (rate.failed, rate.inconclusive)]
        words = [MARK[outcome_of(rate)] if rate.judged else "–", rate.name, rate.phase, rate_text(rate), *counts]
        table.add_row(*(Text(word, style=style if place < 2 else "") for place, word in enumerate(words)))
    console.print(table)
    said = Text.assemble(f"{repeats.verdict.upper()} ", headline(repeats), style=STYLE[repeats.verdict])
    console.print(said, soft_wrap=True)


def markdown(repeats: Repeats) -> str:
    """The runs for a step summary; of the checks those that did not always pass."""
    lines = [f"## {EMOJI[repeats.verdict]} {repeats.verdict.upper()}: {plain(headline(repeats))}"]
    rates = [rate for rate in repeats.checks if rate.judged and rate.passed < rate.judged]
    if rates:
        lines += ["", "| | check | phase | passed |", "|---|---|---|--:|"]
    for rate in rates:
        cells = [EMOJI[outcome_of(rate)], *map(plain, (rate.name, rate.phase, rate_text(rate)))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
