"""Annotations are commands that no text can break out of, and few; the summary is added to the step's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.core.verdict import Check, CheckKind, Outcome
from harness.report.github import MOST, SUMMARY_LIMIT_BYTES, Remark, add_to_summary, commands, is_github, remarks_of

FAILED = Check(
    name="feed_read p(99) <= 200ms",
    kind=CheckKind.SLO,
    verdict=Outcome.FAIL,
    phase="cache-down",
    value=1204.0,
    bound=200.0,
    unit="ms",
    evidence=["first", "second", "third", "fourth"],
)


def test_a_failed_check_is_an_error_with_its_evidence() -> None:
    assert commands(remarks_of("cache-kill", [FAILED])) == [
        "::error title=cache-kill%3A feed_read p(99) <= 200ms in cache-down::"
        "1,204 ms against 200 ms%0Afirst%0Asecond%0Athird"
    ]


def test_undecided_is_a_warning_and_comes_later_passed_and_skipped_are_nothing() -> None:
    unsure = Check(name="order", kind=CheckKind.INVARIANT, verdict=Outcome.INCONCLUSIVE, reason="nothing was observed")
    passed = Check(name="durability", kind=CheckKind.INVARIANT, verdict=Outcome.PASS)
    skipped = Check(name="x", kind=CheckKind.INVARIANT, verdict=Outcome.INCONCLUSIVE, skipped=True)
    first, second = commands(remarks_of("s", [unsure, passed, skipped, FAILED]))
    assert first.startswith("::error ")
    assert second == "::warning title=s%3A order::nothing was observed"


@pytest.mark.parametrize(
    "evil",
    ["\n::error::gone", "\r\n::set-output name=x::y", "100% of, a: b", "50%0A::error::gone", "::stop-commands::t"],
)
def test_text_cannot_begin_a_command_of_its_own(evil: str) -> None:
    [line] = commands([Remark(Outcome.FAIL, f"name{evil}", f"message{evil}")])
    assert len(line.splitlines()) == 1
    match = re.fullmatch(r"::error title=([^:,]*)::(.*)", line)
    assert match is not None
    undone = [re.sub("%([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), part) for part in match.groups()]
    assert undone == [f"name{evil}", f"message{evil}"]


@pytest.mark.parametrize(("count", "lines"), [(MOST, MOST), (MOST + 1, MOST), (100, MOST)])
def test_no_more_than_the_runner_shows(count: int, lines: int) -> None:
    made = commands(Remark(Outcome.FAIL, f"check {k}", "x") for k in range(count))
    assert len(made) == lines
    if count > MOST:
        assert made[-1].startswith(f"::error title={count - MOST + 1} more::check 9%0Acheck 10")


def test_the_summary_is_added_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n", encoding="utf-8")
    assert add_to_summary("## ✅ PASS\n", {"GITHUB_STEP_SUMMARY": str(path)})
    assert path.read_text(encoding="utf-8") == "before\n## ✅ PASS\n\n"
    assert not add_to_summary("x", {})
    assert not add_to_summary("x" * SUMMARY_LIMIT_BYTES, {"GITHUB_STEP_SUMMARY": str(path)})
    assert path.stat().st_size < 100


def test_only_a_step_of_github_is_one() -> None:
    assert is_github({"GITHUB_ACTIONS": "true"})
    assert not is_github({"GITHUB_ACTIONS": "false"})
    assert not is_github({})
