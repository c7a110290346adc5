"""A comparison as people read it: gravest first, what was left out is counted, hostile names are text."""

from __future__ import annotations

import io

import msgspec
from rich.console import Console

from harness.core.verdict import CheckKind, Outcome
from harness.judge.changed_checks import ChangedCheck
from harness.judge.compare import Comparison
from harness.judge.difference import Difference, Finding
from harness.report.comparison import gravest_first, headline, markdown, print_comparison, remarks_of


def row(aggregation: str, finding: Finding, verdict: Outcome, skipped: bool = False) -> Difference:
    return Difference(
        selector="feed_read",
        phase="calm",
        aggregation=aggregation,
        unit="ms",
        before=20.0,
        after=31.0,
        change=None if skipped else 0.55,
        low=None if skipped else 0.4,
        high=None if skipped else 0.7,
        tolerance=0.25,
        samples=(500, 500),
        finding=finding,
        verdict=verdict,
        skipped=skipped,
        reason="too few" if skipped else "",
    )


ROWS = [
    row("med", Finding.SAME, Outcome.PASS),
    row("p(95)", Finding.WORSE, Outcome.FAIL),
    row("p(99)", Finding.UNKNOWN, Outcome.INCONCLUSIVE, skipped=True),
    row("failures", Finding.SAME, Outcome.INCONCLUSIVE),
    row("rate", Finding.BETTER, Outcome.PASS),
]
BROKEN = ChangedCheck(
    name="durability", kind=CheckKind.INVARIANT, phase="", before=Outcome.PASS, after=Outcome.FAIL,
    passed=("1 of 1", "0 of 1"), verdict=Outcome.FAIL, reason="3 violations",
)  # fmt: skip
COMPARISON = Comparison(
    verdict=Outcome.FAIL,
    before=["run-1"],
    after=["run-2"],
    confidence=0.99,
    notes=["different seeds: 1 before, 2 after"],
    differences=ROWS,
    compared_checks=12,
    checks=[BROKEN],
)


def printed(comparison: Comparison, *, every: bool = False) -> str:
    console = Console(file=io.StringIO(), width=160, color_system=None, highlight=False)
    print_comparison(comparison, console, every=every)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_gravest_comes_first_and_what_was_left_out_is_counted() -> None:
    assert [r.aggregation for r in gravest_first(ROWS)] == ["p(95)", "failures", "rate", "med"]
    text = " ".join(printed(COMPARISON).split())
    for words in (
        "before: run-1",
        "note: different seeds: 1 before, 2 after",
        "✗ feed_read p(95) calm 20.0 ms 31.0 ms +55 % +40 % … +70 % +25 % worse, regression",
        "✗ durability: pass, now fail (passed in 1 of 1 runs, now in 0 of 1)",
        "too little data for 1 more figure (--json",
        "FAIL 2 regressions: feed_read p(95), durability.",
    ):
        assert words in text, (words, text)


def test_figures_that_did_not_change_are_counted_unless_all_are_asked_for() -> None:
    short, whole = printed(COMPARISON), printed(COMPARISON, every=True)
    shown = ("feed_read p(95)", "feed_read failures", "feed_read rate")
    assert all(name in text for name in shown for text in (short, whole))
    assert "feed_read med" not in short
    assert "1 figure unchanged (--all lists them)" in short
    assert "feed_read med" in whole
    assert "unchanged" not in whole
    assert "1 figure unchanged." in markdown(COMPARISON).splitlines()


def test_where_no_figure_was_compared_there_is_no_empty_table() -> None:
    text = printed(msgspec.structs.replace(COMPARISON, differences=[ROWS[2]]))
    assert "tolerance" not in text
    assert "too little data for 1 more figure" in text


def test_the_headline_says_why() -> None:
    passed = msgspec.structs.replace(COMPARISON, verdict=Outcome.PASS, differences=ROWS[:1], checks=[])
    assert headline(passed) == "no regression in 1 figure and 12 checks."
    unsure = msgspec.structs.replace(COMPARISON, verdict=Outcome.INCONCLUSIVE, differences=ROWS[3:], checks=[])
    assert headline(unsure) == "no regression shown, and not excluded: feed_read failures in calm."
    nothing = msgspec.structs.replace(unsure, differences=[ROWS[2]])
    assert headline(nothing) == "nothing could be compared."


def test_the_summary_has_what_changed_and_shows_text_as_text() -> None:
    text = markdown(msgspec.structs.replace(COMPARISON, before=["<b>| a |"]))
    lines = text.splitlines()
    assert lines[0] == "## ❌ FAIL: compared with \\<b\\>\\| a \\|"
    assert "- different seeds: 1 before, 2 after" in lines
    assert [line for line in lines if line.startswith("| ❌ | feed\\_read p(95) | calm |")]
    assert not any("med" in line for line in lines)
    assert "- ❌ durability: pass, now fail. 3 violations" in lines


def test_regressions_and_open_questions_are_annotated() -> None:
    assert [(r.outcome, r.title) for r in remarks_of(COMPARISON)] == [
        (Outcome.FAIL, "feed_read p(95) in calm"),
        (Outcome.INCONCLUSIVE, "feed_read failures in calm"),
        (Outcome.FAIL, "durability: pass, now fail"),
    ]
