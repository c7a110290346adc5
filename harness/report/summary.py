"""summary.md: what fits into the step summary of a CI job."""

from __future__ import annotations

from harness.core.verdict import Check, Outcome
from harness.report.markdown import MARK, plain
from harness.report.run_data import RunData
from harness.report.wording import (
    baseline_sentences,
    bound_text,
    counted,
    failing_first,
    headline,
    machine_sentences,
    measured_text,
    sentences,
)

EVIDENCE_LINES = 3


def render(data: RunData) -> str:
    """The file."""
    verdict, count = data.verdict, counted(data.verdict.checks)
    words = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive", "skipped": "skipped"}
    tally = ", ".join(f"{count[key]} {word}" for key, word in words.items() if count[key])
    target = f", target {plain(data.manifest.target)}" if data.manifest.target else ""
    lines = [
        f"## {MARK[verdict.verdict]} {verdict.verdict.upper()}: {plain(verdict.scenario)}",
        "",
        plain(headline(verdict)),
        "",
        f"Seed {verdict.seed}{target}. {tally or 'No checks'}.",
        "",
        plain(" ".join(machine_sentences(verdict))),
        *(text for said in baseline_sentences(verdict) for text in ("", plain(said))),
    ]
    troubles = [c for c in failing_first(verdict.checks) if c.verdict != Outcome.PASS and not c.skipped]
    if troubles:
        lines += ["", "| | check | phase | value | bound |", "|---|---|---|--:|--:|", *map(_row, troubles)]
    for check in troubles:
        said = sentences(check)
        if said:
            lines += ["", f"**{plain(check.name)}**" + (f" in {plain(check.phase)}" if check.phase else ""), ""]
            lines += [f"- {plain(sentence)}" for sentence in said[:EVIDENCE_LINES]]
            left = len(said) - EVIDENCE_LINES
            lines += [f"- … {left} more in the report"] if left > 0 else []
    for fault in data.faults:
        if not fault.undo_ok:
            lines += ["", f"**Not undone:** {plain(fault.kind)} on {plain(fault.handle)}: {plain(fault.undo)}"]
    return "\n".join(lines) + "\n"


def _row(check: Check) -> str:
    cells = [MARK[check.verdict], *map(plain, (check.name, check.phase, measured_text(check), bound_text(check)))]
    return f"| {' | '.join(cells)} |"
