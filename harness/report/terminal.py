"""What a person sees in the terminal: a live panel while a run goes on, and the verdict at its end.

`LivePanel` redraws in place on a terminal; anywhere else (a CI log) it prints a line when something changes and every
ten seconds. It shows what it is told and measures nothing.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType

import msgspec
from rich import box
from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.core.verdict import Check, Outcome, Verdict
from harness.report.wording import (
    HOW_TO_LIST,
    baseline_sentences,
    bound_text,
    failing_first,
    headline,
    machine_range_text,
    machine_sentences,
    range_text,
    sentences,
    unchanged_text,
)

PLAIN_EVERY_S = 10.0
EVIDENCE_LINES = 3
STYLE = {Outcome.PASS: "green", Outcome.FAIL: "bold red", Outcome.INCONCLUSIVE: "yellow"}
MARK = {Outcome.PASS: "✓", Outcome.FAIL: "✗", Outcome.INCONCLUSIVE: "?"}


class OpLine(msgspec.Struct, kw_only=True):
    """One sort of operation so far."""

    kind: str
    count: int = 0
    failed: int = 0
    p99_ms: float = 0.0


class ActiveFault(msgspec.Struct, kw_only=True):
    """One fault that is injected now."""

    kind: str
    handle: str
    left_s: float = 0.0
    """until its undo; negative: being undone"""


class SloLine(msgspec.Struct, kw_only=True):
    """One expectation over the last seconds."""

    name: str
    value: str = ""
    holds: bool | None = None
    """None: nothing was measured"""


class LiveState(msgspec.Struct, kw_only=True):
    """One moment of a run."""

    scenario: str
    target: str = ""
    stage: str = ""
    """what is being done, in words ("starting the target")"""
    phase: str = ""
    """name of the phase under way; empty before and after"""
    phase_elapsed_s: float = 0.0
    phase_length_s: float = 0.0
    elapsed_s: float = 0.0
    """since the first phase began"""
    length_s: float = 0.0
    """of all phases"""
    ops_per_s: float = 0.0
    late: int = 0
    dropped: int = 0
    streams_open: int = 0
    streams_wanted: int = 0
    events_per_s: float = 0.0
    ops: Sequence[OpLine] = ()
    faults: Sequence[ActiveFault] = ()
    slos: Sequence[SloLine] = ()
    forbidden: str = ""
    """why no fault may begin; empty: they may"""
    keys: str = ""
    """what can be typed, in a line"""


class LivePanel:
    """A live view of a run. Use it as a context manager and call `update` a few times a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._plain_shown: tuple[str, ...] = ()
        self._plain_at = 0.0

    def __enter__(self) -> LivePanel:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, state: LiveState) -> None:
        """Show `state`."""
        if self._live is not None:
            self._live.update(draw(state))
            return
        shown = (state.stage, state.phase, *(f"{f.kind} {f.handle}" for f in state.faults))
        now = time.monotonic()
        if shown != self._plain_shown or (state.phase and now - self._plain_at >= PLAIN_EVERY_S):
            self._plain_shown, self._plain_at = shown, now
            self._console.print(plain_line(state), highlight=False, markup=False, soft_wrap=True)


def plain_line(state: LiveState) -> str:
    """The state in one line, for logs."""
    if not state.phase:
        return f"{state.scenario}: {state.stage}"
    failed = sum(op.failed for op in state.ops)
    words = [
        f"{state.scenario}: {state.phase} {state.phase_elapsed_s:.0f}/{state.phase_length_s:.0f} s",
        f"{state.ops_per_s:.0f} ops/s, {failed} failed",
    ]
    if state.streams_wanted:
        words.append(f"{state.streams_open}/{state.streams_wanted} streams, {state.events_per_s:.0f} events/s")
    words += [f"FAULT {f.kind} {f.handle}" for f in state.faults]
    words += [f"BROKEN {slo.name} ({slo.value})" for slo in state.slos if slo.holds is False]
    return " | ".join(words)


def draw(state: LiveState) -> RenderableType:
    """The panel of one moment."""
    parts: list[RenderableType] = [_progress(state)]
    if state.phase:
        parts += [Text(), _rates(state)]
    if state.ops:
        parts += [Text(), _ops(state.ops)]
    if state.slos:
        parts += [Text(), _slos(state.slos)]
    if state.faults:
        parts += [Text(), *(_fault(fault) for fault in state.faults)]
    if state.forbidden:
        parts += [Text(), Text(f"■ new faults are forbidden: {state.forbidden}", style="bold yellow")]
    if state.keys:
        parts += [Text(), Text(state.keys, style="dim")]
    title = Text.assemble((state.scenario, "bold"), (f"  on {state.target}" if state.target else "", "dim"))
    return Panel(Group(*parts), title=title, title_align="left", border_style="dim", padding=(1, 2), width=84)


def print_verdict(
    verdict: Verdict,
    console: Console,
    report: Path | None = None,
    unchanged: Collection[tuple[str, str]] = (),
) -> None:
    """Print the checks, failing ones first and with their evidence, then the verdict in one line.

    `unchanged`: name and phase of the checks that are counted instead, as what they compare did not change.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for column, justify in (("", "left"), ("check", "left"), ("phase", "left"), ("value", "right"), ("bound", "right")):
        sides: JustifyMethod = "right" if justify == "right" else "left"
        table.add_column(column, justify=sides, no_wrap=column != "check", overflow="fold")
    table.add_column("machine alone", justify="right", style="dim", no_wrap=True)
    table.add_column("seen", justify="right", style="dim")
    told = [check for check in failing_first(verdict.checks) if (check.name, check.phase) not in unchanged]
    for same in _together(told):
        table.add_row(*_check_cells(same))
    console.print(table)
    if count := len(verdict.checks) - len(told):
        said = f"against the baseline: {unchanged_text(count)} ({HOW_TO_LIST})"
        console.print(Text(said, style="dim"), soft_wrap=True)
    for check in told:
        if check.verdict != Outcome.PASS and not check.skipped:
            _print_evidence(check, console)
    for said in [*machine_sentences(verdict), *baseline_sentences(verdict)]:
        console.print(Text(said, style="dim"), soft_wrap=True)
    sentence = Text(headline(verdict), style=STYLE[verdict.verdict])
    console.print(Text.assemble((f"{verdict.verdict.upper()} ", STYLE[verdict.verdict]), sentence), soft_wrap=True)
    if report is not None:
        console.print(Text(f"report: {report}", style="dim"), soft_wrap=True)


def _together(checks: Sequence[Check]) -> list[list[Check]]:
    """Checks in order; those of one name that passed, or were skipped for one reason, share a row over their phases."""
    groups: dict[object, list[Check]] = {}
    for number, check in enumerate(checks):
        alike = (check.name, check.reason if check.skipped else "")
        groups.setdefault(alike if check.skipped or check.verdict == Outcome.PASS else number, []).append(check)
    return list(groups.values())


def _check_cells(same: Sequence[Check]) -> list[Text]:
    check = same[0]
    phase = check.phase if len(same) == 1 else f"{len(same)} phases"
    if check.skipped:
        why = check.reason.removeprefix("skipped: ")
        told = f"{check.name}: {why}" if why else check.name
        return [Text(word, style="dim") for word in ("–", told, phase, "skipped", "", "", "")]
    mark = Text(MARK[check.verdict], style=STYLE[check.verdict])
    name = Text(check.name, style="" if check.verdict == Outcome.PASS else STYLE[check.verdict])
    seen = sum(c.observations for c in same)
    cells = [phase, range_text(same), bound_text(check), machine_range_text(same), f"{seen:,}" if seen else ""]
    return [mark, name, *map(Text, cells)]


def _print_evidence(check: Check, console: Console) -> None:
    where = f" in {check.phase}" if check.phase else ""
    console.print(Text.assemble((f"{MARK[check.verdict]} {check.name}{where}", STYLE[check.verdict])), soft_wrap=True)
    said = sentences(check)
    for sentence in said[: EVIDENCE_LINES + 1]:
        console.print(Padding(Text(sentence), (0, 0, 0, 4)))
    if len(said) > EVIDENCE_LINES + 1:
        console.print(Padding(Text(f"… {len(said) - EVIDENCE_LINES - 1} more in the report", style="dim"), (0, 4)))
    console.print()


def _progress(state: LiveState) -> RenderableType:
    if not state.phase:
        return Text.assemble(("● ", "cyan"), state.stage)
    left_s = max(0.0, state.length_s - state.elapsed_s)
    grid = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(state.phase_length_s, 0.001), completed=state.phase_elapsed_s, width=34)
    grid.add_row(
        Text(state.phase, style="bold"),
        bar,
        Text(f"{state.phase_elapsed_s:.0f} of {state.phase_length_s:.0f} s"),
        Text(f"{left_s:.0f} s left", style="dim"),
    )
    return grid


def _rates(state: LiveState) -> RenderableType:
    words = [("ops ", "dim"), (f"{state.ops_per_s:,.0f}/s", "")]
    if state.streams_wanted:
        short = state.streams_open < state.streams_wanted
        words += [("   streams ", "dim"), (f"{state.streams_open:,}", "yellow" if short else "")]
        words += [(f" of {state.streams_wanted:,}", "dim"), ("   events ", "dim"), (f"{state.events_per_s:,.0f}/s", "")]
    if state.late or state.dropped:
        words += [("   late ", "dim"), (f"{state.late:,}", "yellow"), ("   dropped ", "dim")]
        words += [(f"{state.dropped:,}", "yellow")]
    return Text.assemble(*words)


def _ops(ops: Sequence[OpLine]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("op", min_width=14)
    for column in ("count", "failed", "p99"):
        table.add_column(column, justify="right", min_width=10)
    for op in ops:
        failed = Text(f"{op.failed:,}" if op.failed else "·", style="red" if op.failed else "dim")
        table.add_row(op.kind, f"{op.count:,}", failed, f"{op.p99_ms:,.0f} ms")
    return table


def _slos(slos: Sequence[SloLine]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("expected, over the last seconds", no_wrap=True)
    table.add_column("now", justify="right", min_width=10)
    for slo in slos:
        mark, style = {True: ("✓ ", "green"), False: ("✗ ", "bold red"), None: ("· ", "dim")}[slo.holds]
        name = Text.assemble((mark, style), (slo.name, style if slo.holds is False else ""))
        table.add_row(name, Text(slo.value, style=style))
    return table


def _fault(fault: ActiveFault) -> RenderableType:
    left = f"{fault.left_s:.0f} s left" if fault.left_s > 0 else "being undone"
    return Text.assemble(("▲ ", "bold red"), (fault.kind, "bold"), f" {fault.handle}  ", (left, "dim"))
