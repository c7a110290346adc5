"""What GitHub Actions shows of a run beside its log: annotations, and the step summary. Pure but for `add_to_summary`.

Annotations are lines of the log that begin with `::error` or `::warning`; the runner shows ten of each a step at most.
Text of theirs is escaped as the runner wants it, so no evidence can end a line and begin a command of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.core.verdict import Check, Outcome
from harness.report.wording import against_text, failing_first, sentences

MOST = 10
"""annotations of a level in a step; more are not shown"""
EVIDENCE_LINES = 3
SUMMARY_LIMIT_BYTES = 1 << 20
"""of a step summary; a larger one is refused as a whole"""
LEVELS = {Outcome.FAIL: "error", Outcome.INCONCLUSIVE: "warning"}


def is_github(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a step of GitHub Actions."""
    return environment.get("GITHUB_ACTIONS") == "true"


class Remark(NamedTuple):
    """What an annotation says."""

    outcome: Outcome
    """fail is an error, inconclusive a warning, pass nothing"""
    title: str
    message: str


def remarks_of(scenario: str, checks: Iterable[Check]) -> list[Remark]:
    """One on each check that failed or could not be decided."""
    troubles = [check for check in failing_first(checks) if check.verdict in LEVELS and not check.skipped]
    return [Remark(check.verdict, _title(scenario, check), _message(check)) for check in troubles]


def commands(remarks: Iterable[Remark]) -> list[str]:
    """A line each, errors first; of more than MOST of a level the last tells how many there are."""
    said = list(remarks)
    lines: list[str] = []
    for outcome, level in LEVELS.items():
        lines += _at_most(level, [remark for remark in said if remark.outcome is outcome])
    return lines


def _at_most(level: str, said: Sequence[Remark]) -> list[str]:
    shown = said if len(said) <= MOST else said[: MOST - 1]
    lines = [annotation(level, remark.title, remark.message) for remark in shown]
    if left := said[len(shown) :]:
        lines.append(annotation(level, f"{len(left)} more", "\n".join(remark.title for remark in left)))
    return lines


def _title(scenario: str, check: Check) -> str:
    return f"{scenario}: {check.name}" + (f" in {check.phase}" if check.phase else "")


def _message(check: Check) -> str:
    said = sentences(check)[:EVIDENCE_LINES]
    return "\n".join(part for part in (against_text(check), *said) if part) or str(check.verdict)


def annotation(level: str, title: str, message: str) -> str:
    """One workflow command; `level` is error, warning or notice."""
    return f"::{level} title={_escaped_property(title)}::{_escaped(message)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped_property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def add_to_summary(markdown: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Add to the summary of the step, where there is one; whether there was, with room for it.

    Raises OSError when the file that the runner named cannot be written.
    """
    name = environment.get("GITHUB_STEP_SUMMARY", "")
    if not name or not markdown:
        return False
    path, text = Path(name), markdown.encode()
    has = path.stat().st_size if path.exists() else 0
    if has + len(text) > SUMMARY_LIMIT_BYTES:
        return False
    with path.open("ab") as file:
        file.write(text + b"\n")
    return True
