"""Measures claims one after the other and keeps what came of each, so that a night cut short can go on.

DIR/claims.json   a finding a claim (`Findings`), from the beginning: it marks DIR as a folder of runs
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from harness.claims.catalogue import CLAIMS
from harness.claims.measuring import kept, measure
from harness.claims.model import Claim, Figure, Measured, Source
from harness.claims.page import markdown
from harness.claims.readings import Finding, Standing, finding_of, is_told
from harness.core.errors import ExitCode, ResidueError, UsageError
from harness.record.run_directory import FINDINGS

Measure = Callable[[Source, list[Figure], Path], Awaitable[Measured]]
Told = Callable[[Finding, float], None]


class Findings(msgspec.Struct, kw_only=True):
    """What is known of claims, by id."""

    findings: dict[str, Finding] = {}


async def measure_claims(
    claims: Sequence[Claim], out: Path, told: Told, *, resume: bool = False, measure: Measure = measure
) -> dict[str, Finding]:
    """Measure what is behind each claim, each source once, and tell of each claim as soon as it is known.

    Raises ResidueError when a fault could not be undone: nothing is measured after that.
    """
    results: dict[Source, Measured] = {}
    known = read_findings(out / FINDINGS) if resume else {}
    write_findings(out / FINDINGS, known)
    for claim in claims:
        started = time.monotonic()
        for source in claim.sources:
            if source not in results:
                old = _kept(source, claims, out) if resume else None
                results[source] = old or await measure(source, figures_on(source), out)
                if results[source].exit_code == ExitCode.RESIDUE:
                    raise ResidueError(f"{source.command}: a fault could not be undone; see {out}")
        known[claim.id] = finding = finding_of(claim, results)
        write_findings(out / FINDINGS, known)
        told(finding, time.monotonic() - started)
    return known


def _kept(source: Source, claims: Sequence[Claim], out: Path) -> Measured | None:
    """What was measured of a source before, if it tells all that is asked of it now."""
    old = kept(source, out)
    asked = [figure for claim in claims for figure in claim.figures if source in figure.sources]
    return old if old is not None and all(is_told(figure, source, old) for figure in asked) else None


def figures_on(source: Source) -> list[Figure]:
    """All figures that any claim reads off this source, so that it serves each of them later."""
    return [figure for claim in CLAIMS for figure in claim.figures if source in figure.sources]


def read_findings(path: Path) -> dict[str, Finding]:
    """What is known; empty when there is no such file. Raises UsageError when it holds something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Findings).findings if path.exists() else {}
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: holds no findings: {error}") from error


def write_findings(path: Path, findings: dict[str, Finding]) -> None:
    """Store findings, in the order of the claims."""
    ordered = Findings(findings={claim.id: findings[claim.id] for claim in CLAIMS if claim.id in findings})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n")


def write_page(page: Path, findings: dict[str, Finding]) -> None:
    """Write docs/claims.md, and beside it (.json) what it is made of: older findings stay until measured anew."""
    stored = page.with_suffix(".json")
    new = {name: finding for name, finding in findings.items() if finding.standing is not Standing.UNMEASURED}
    write_findings(stored, read_findings(stored) | new)
    page.write_text(markdown(CLAIMS, read_findings(stored)), encoding="utf-8")
