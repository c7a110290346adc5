"""Findings as people read them: docs/claims.md (generated; nobody edits it), a table and lines in the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.claims.model import Claim
from harness.claims.readings import Finding, Read, Standing, number
from harness.core.verdict import Outcome
from harness.report.markdown import plain

SHARE = "share"
MARKS = {
    Standing.REPRODUCED: ("✓", "green"),
    Standing.NOT_REPRODUCED: ("✗", "red"),
    Standing.UNDECIDED: ("?", "yellow"),
    Standing.UNMEASURED: ("·", "dim"),
}
_PAGE = """\
# The claims, measured
Two articles tell of a feed for a hundred million users. One calls itself fictionalised, the other hedges; their figures
are claims, and each is measured here: on one small machine, at a size that fits it. So beside each stands what a figure
of this size says of it: ratios carry over, absolute figures mostly do not.

```sh
feedstorm claims --list                        # what is claimed, and what measures it
feedstorm claims C3 C9                         # measure two of them
feedstorm claims --write docs/claims.md        # all of them, a night's work, and this page anew
feedstorm claims --out runs/claims --resume    # go on where a night was cut short
```

**reproduced**: every figure that decides met its bound · **not reproduced**: one missed it · **not decidable here**:
one could not be known, or only a larger machine can meet it · **not measured yet**: nobody did.
C17 (compaction) would need a durable store that compacts, C22 (federation) servers of others: neither is here.

This page is generated, from `docs/claims.json`: nothing on it was typed in.
"""


def markdown(claims: Sequence[Claim], findings: Mapping[str, Finding]) -> str:
    """docs/claims.md: a row a claim, then how each was measured."""
    lines = [_PAGE, f"## Result\n{tally([findings[c.id] for c in claims if c.id in findings], len(claims))}\n"]
    lines += ["| | claimed | measured here | what that says of it | verdict |", "|---|---|---|---|---|"]
    for claim in claims:
        finding = findings.get(claim.id)
        cells = (claim.claimed, measured_text(finding), claim.scaled, f"**{standing_of(finding)}**")
        lines.append(f"| [{claim.id}](#{claim.id.lower()}) | {' | '.join(_cell(text) for text in cells)} |")
    for claim in claims:
        lines += ["", *_section(claim, findings.get(claim.id))]
    return "\n".join(lines) + "\n"


def _section(claim: Claim, finding: Finding | None) -> Iterator[str]:
    yield f"## {claim.id}\n{claim.says}\n"
    yield "Measured by " + ", ".join(f"`{source.command}`" for source in claim.sources) + "."
    if finding is None or finding.standing is Standing.UNMEASURED:
        yield "\nNot measured yet."
        return
    others = f"; others took up to {100 * finding.others:.0f} % of it meanwhile" if finding.others is not None else ""
    yield f"\n{finding.date}, {finding.machine}{others}; commit {finding.commit or 'unknown'}.\n"
    yield "| figure | measured | bound | |\n|---|--:|---|---|"
    for figure in finding.figures:
        bound = bound_text(figure) if figure.decides else "told only"
        cells = (figure.label, value_text(figure), bound, _remark(figure))
        yield f"| {' | '.join(map(_cell, cells))} |"


def _remark(figure: Read) -> str:
    if not figure.decides:
        return figure.reason
    word = {Outcome.PASS: "met", Outcome.FAIL: "**missed**", Outcome.INCONCLUSIVE: "not known"}[figure.outcome]
    return f"{word}: {figure.reason}" if figure.reason else word


def _cell(text: str) -> str:
    """As it may stand in a cell; our own asterisks stay."""
    return "**".join(plain(part) for part in text.split("**"))


def value_text(figure: Read) -> str:
    """A figure with its unit: "21.4 ms", "4,312 looked at"; a dash when it is not known."""
    if figure.value is None:
        return "-"
    if figure.unit == SHARE:
        return _percent(figure.value)
    return f"{number(figure.value)} {figure.unit}".strip()


def bound_text(figure: Read) -> str:
    """The bound in the unit of the figure: ">= 98.7 %" for the share ">= 0.987"."""
    if figure.unit != SHARE or "%" in figure.bound:
        return figure.bound
    return re.sub(r"\d+(\.\d+)?", lambda found: _percent(float(found[0])), figure.bound)


def _percent(share: float) -> str:
    """Three digits, and more where these would round up to all of it: 98.7 %, 99.9991 %."""
    rough = number(100 * share)
    return f"{100 * share:.6g} %" if rough == "100" and share < 1 else f"{rough} %"


def measured_text(finding: Finding | None) -> str:
    """The figures that decide, in a line."""
    if finding is None or finding.standing is Standing.UNMEASURED:
        return "-"
    known = [f for f in finding.figures if f.decides and f.value is not None]
    return "; ".join(f"{figure.label}: {value_text(figure)}" for figure in known) or "-"


def standing_of(finding: Finding | None) -> Standing:
    """What is known of a claim, measured or not."""
    return finding.standing if finding is not None else Standing.UNMEASURED


def tally(findings: Sequence[Finding], of: int) -> str:
    """The whole in a sentence."""
    counts = {standing: sum(f.standing is standing for f in findings) for standing in Standing}
    counts[Standing.UNMEASURED] += of - len(findings)
    words = [f"{count} {standing}" for standing, count in counts.items() if count]
    return f"Of {of} claims: {', '.join(words)}."


def print_finding(finding: Finding, took_s: float, console: Console) -> None:
    """The line of a claim that was just measured."""
    mark, style = MARKS[finding.standing]
    said = Text.assemble((f"{mark} {finding.claim} {finding.standing}", style), f"  {took_s:.0f} s  ", why(finding))
    console.print(said, soft_wrap=True)


def why(finding: Finding) -> str:
    """What decided it: the figures that missed or are not known, else all of them."""
    worst = Outcome.FAIL if finding.standing is Standing.NOT_REPRODUCED else Outcome.INCONCLUSIVE
    odd = [f for f in finding.figures if f.decides and f.outcome is worst]
    if finding.standing is Standing.REPRODUCED or not odd:
        return measured_text(finding)
    return "; ".join(f"{f.label}: {value_text(f)} ({bound_text(f)}) {f.reason}".rstrip() for f in odd)


def print_findings(claims: Sequence[Claim], findings: Mapping[str, Finding], console: Console) -> None:
    """Claimed, measured, scaled meaning, verdict: a row a claim, and the whole in a sentence."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("", "claimed", "measured on this machine", "what that says of it", "verdict"):
        table.add_column(column)
    for claim in claims:
        finding = findings.get(claim.id)
        standing = standing_of(finding)
        measured = "\n".join(measured_text(finding).split("; "))
        cells = (claim.id, claim.claimed, measured, claim.scaled, str(standing))
        table.add_row(*map(Text, cells[:-1]), Text(cells[-1], style=MARKS[standing][1]))
    console.print(table)
    console.print(tally([findings[c.id] for c in claims if c.id in findings], len(claims)), soft_wrap=True)


def print_claims(claims: Iterable[Claim], console: Console) -> None:
    """What is claimed and what measures it, a row each."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("", "claimed", "in other words", "measured by"):
        table.add_column(column)
    for claim in claims:
        commands = "\n".join(source.command for source in claim.sources)
        table.add_row(*map(Text, (claim.id, claim.claimed, claim.says, commands)))
    console.print(table)
