"""The live panel and the verdict as a person sees them, on a terminal and in a log."""

from __future__ import annotations

import io
import re
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from sample_run import sample_verdict

from harness.report.terminal import ActiveFault, LivePanel, LiveState, OpLine, SloLine, draw, plain_line, print_verdict

RUNNING = LiveState(
    scenario="celebrity-cache-kill",
    target="reference",
    stage="running",
    phase="cache-down",
    phase_elapsed_s=7.4,
    phase_length_s=20,
    elapsed_s=27.4,
    length_s=60,
    ops_per_s=212.0,
    late=3,
    streams_open=1_998,
    streams_wanted=2_000,
    events_per_s=1_604.0,
    ops=[OpLine(kind="feed", count=5_120, p99_ms=31.2), OpLine(kind="post", count=1_204, failed=2, p99_ms=12.9)],
    faults=[ActiveFault(kind="kill", handle="us-east.memcached", left_s=2.6)],
)


def console(*, terminal: bool, width: int = 100) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None, highlight=False)


def text_of(made: Console) -> str:
    assert isinstance(made.file, io.StringIO)
    return made.file.getvalue()


def test_panel_shows_the_moment() -> None:
    made = console(terminal=False)
    made.print(draw(RUNNING))
    text = text_of(made)
    for word in (
        "celebrity-cache-kill  on reference", "cache-down", "7 of 20 s", "33 s left", "ops 212/s",
        "streams 1,998 of 2,000", "events 1,604/s", "late 3", "5,120", "31 ms", "kill us-east.memcached  3 s left",
    ):  # fmt: skip
        assert word in text, word


def test_panel_of_a_game_day_shows_expectations_and_what_can_be_typed() -> None:
    made = console(terminal=False)
    slos = [
        SloLine(name="feed_read failures == 0", value="3", holds=False),
        SloLine(name="post_accept p(95) <= 1s", value="12.1 ms", holds=True),
        SloLine(name="signup max <= 1s", value="-"),
    ]
    state = msgspec.structs.replace(RUNNING, slos=slos, forbidden="customers complain", keys="q  end")
    made.print(draw(state))
    text = text_of(made)
    for line in (
        r"✗ feed_read failures == 0 +3 ", r"✓ post_accept p\(95\) <= 1s +12\.1 ms ", r"· signup max <= 1s +- ",
        "new faults are forbidden: customers complain", "q  end",
    ):  # fmt: skip
        assert re.search(line, text), line
    assert plain_line(state).endswith("| FAULT kill us-east.memcached | BROKEN feed_read failures == 0 (3)")


def test_panel_before_the_phases_shows_the_stage() -> None:
    made = console(terminal=False)
    made.print(draw(LiveState(scenario="s", stage="starting the target")))
    assert "● starting the target" in text_of(made)


def test_terminal_redraws_and_cleans_up() -> None:
    made = console(terminal=True)
    with LivePanel(made) as panel:
        panel.update(RUNNING)
    assert "cache-down" in text_of(made)
    assert "\x1b[?25h" in text_of(made)  # the cursor is shown again


def test_log_gets_a_line_only_when_something_changes() -> None:
    made = console(terminal=False)
    with LivePanel(made) as panel:
        panel.update(LiveState(scenario="s", stage="starting the target"))
        panel.update(LiveState(scenario="s", stage="starting the target"))
        panel.update(RUNNING)
        panel.update(RUNNING)
    lines = text_of(made).splitlines()
    assert lines[0] == "s: starting the target"
    assert lines[1:] == [plain_line(RUNNING)]
    assert lines[1].endswith("212 ops/s, 2 failed | 1998/2000 streams, 1604 events/s | FAULT kill us-east.memcached")


def test_verdict_shows_failures_first_with_evidence_and_ends_with_one_line() -> None:
    made = console(terminal=False, width=120)
    print_verdict(sample_verdict("fail", ""), made, Path("runs/x/report.html"))
    text = text_of(made)
    lines = text.splitlines()
    assert re.findall(r"^ *([✗?✓–]) +(\w+)", text, re.MULTILINE)[:4] == [
        ("✗", "durability"),
        ("✗", "post_to_event"),
        ("?", "late"),
        ("✓", "no"),
    ]
    assert "missing from the final walk" in text
    assert re.search(r"feed_read p\(99\) <= 200ms +3 phases +61\.4 ms +200 ms +10,236", text)
    assert re.search(r"– +cursor integrity: target lacks signed cursors +skipped", text)
    assert lines[-2].startswith("FAIL celebrity-cache-kill: 2 of 33 checks failed: durability, post_to_event")
    assert lines[-1] == "report: runs/x/report.html"


def test_what_was_skipped_for_one_reason_in_several_phases_shares_a_row() -> None:
    verdict = sample_verdict("pass", "")
    lacking = msgspec.structs.replace(
        verdict.checks[0], name="feed_new p(95)", skipped=True, reason="skipped: target x lacks feed/new"
    )
    checks = [msgspec.structs.replace(lacking, phase=phase) for phase in ("calm", "storm")]
    other = msgspec.structs.replace(lacking, phase="end", reason="skipped: the run has no end")
    made = console(terminal=False, width=120)
    print_verdict(msgspec.structs.replace(verdict, checks=[*checks, other]), made)
    rows = [line for line in text_of(made).splitlines() if "skipped" in line and "–" in line]
    assert [row.split()[-3:] for row in rows] == [["2", "phases", "skipped"], ["end", "end", "skipped"]]


@pytest.mark.parametrize("outcome", ["pass", "inconclusive"])
def test_other_verdicts(outcome: str) -> None:
    made = console(terminal=False, width=120)
    print_verdict(sample_verdict(outcome, ""), made)
    assert text_of(made).splitlines()[-1].startswith(f"{outcome.upper()} celebrity-cache-kill: ")


def test_markup_in_texts_is_shown_as_it_is() -> None:
    made = console(terminal=False, width=200)
    print_verdict(sample_verdict("fail", "[red]x[/red][/]"), made)
    assert "[red]x[/red][/]" in text_of(made)


def test_what_the_machine_alone_took_stands_beside_and_below() -> None:
    made = console(terminal=False, width=140)
    print_verdict(sample_verdict("fail", ""), made)
    text = text_of(made)
    assert re.search(r"1,204 ms +500 ms +88 ms", text)
    assert "Noise floor (baseline): an echo on this machine alone took 0.21 ms at the median" in text
    assert "Others kept the run from the processors for 3 s of cache-down." in text


def test_a_machine_that_was_not_measured_is_said() -> None:
    made = console(terminal=False)
    print_verdict(sample_verdict("pass", ""), made)
    assert "The machine was not measured beside the run" in text_of(made)


def test_a_long_name_is_not_cut_off() -> None:
    verdict = sample_verdict("pass", "")
    name = "post_to_event{scope:local,author:ordinary,region:us-east} p(95) <= 200ms"
    check = msgspec.structs.replace(verdict.checks[0], name=name)
    made = console(terminal=True, width=70)
    print_verdict(msgspec.structs.replace(verdict, checks=[check]), made)
    assert "…" not in text_of(made)
