"""summary.md is short, names what failed, and shows hostile text as text."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.record.run_directory import RunDirectory

Reported = Callable[..., RunDirectory]


def test_a_failing_run(reported: Reported) -> None:
    lines = reported().summary.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "## ❌ FAIL: celebrity-cache-kill"
    assert "Seed 42, target reference. 30 passed, 2 failed, 1 inconclusive, 1 skipped." in lines
    assert "| ❌ | durability |  | 3 violations | 0 violations |" in lines
    assert any(line.startswith("- post 0193f2a1") for line in lines)
    assert "(machine alone: 88 ms) | 500 ms |" in "\n".join(lines).replace("\\", "")
    assert any(line.startswith("Noise floor (baseline): an echo on this machine alone took 0.21 ms") for line in lines)
    assert len(lines) < 40


def test_a_passing_run_is_seven_lines(reported: Reported) -> None:
    lines = reported("pass").summary.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("## ✅ PASS")
    assert len(lines) == 7
    assert lines[-1].startswith("The machine was not measured")


@pytest.mark.parametrize("evil", ["<img src=x>", "| a |", "**b**\n# head", "[x](http://y)", "`c`", "@team"])
def test_markup_is_escaped(reported: Reported, evil: str) -> None:
    text = reported("fail", evil).summary.read_text(encoding="utf-8")
    assert evil not in text
    assert (
        "".join(f"\\{c}" if c in "\\`*_{}[]<>#|~" else c for c in " ".join(evil.split())).replace("@", "@\u200b")
        in text
    )
