"""index.html of a suite: one file that loads nothing and says what became of every run."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from urllib.parse import unquote

import pytest

from harness.judge.suites import Suite


@pytest.fixture
def text(suite_page: Path) -> str:
    return suite_page.read_text(encoding="utf-8")


def rows(text: str) -> list[str]:
    """The rows of the table, without tags."""
    found = re.findall(r'<tr class="(?:pass|fail|inconclusive)">(.*?)</tr>', text, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", " ", row).split()) for row in found]


def test_a_row_a_run(text: str) -> None:
    assert rows(text)[:3] == [
        "✓ cache-kill all passed pass 1 min 5 s",
        "✗ mine &amp; theirs 1 check failed fail 0 s",
        "✓ cache-kill durability: fail: post p1 is missing --defect no-wal has to fail: durability caught 0 s",
    ]


def test_a_link_leads_to_a_report_that_is_there(text: str, suite_page: Path, suite: Suite) -> None:
    links = [unquote(link) for link in re.findall(r'href="(?!data:)([^"]*)"', text)]
    assert links == [f"{run.run}/report.html" for run in suite.runs[:3]]
    assert all((suite_page.parent / link).is_file() for link in links)


def test_says_what_it_was_made_with_and_what_is_missing(text: str) -> None:
    facts = dict(re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", text))
    assert facts == {
        "Runs": "4 of 5",
        "Started": "2030-01-02 03:04:05 UTC",
        "Length": "1 min 5 s",
        "Machine": "2 cores, some cpu",
        "Seed": "7",
    }
    assert (
        "1 of 3 scenarios passed, 1 of 1 failed as they have to, in 1 min 5 s; 1 run was not made: interrupted." in text
    )
    assert "<code>feedstorm suite --seed 7</code>" in text


def test_loads_nothing_and_runs_nothing(text: str, suite: Suite) -> None:
    assert "<script" not in text
    assert "<img" not in text
    assert escape(suite.runs[-1].says, quote=False) in text.replace("&#34;", '"').replace("&#39;", "'")
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in text
    assert not re.search(r"@import|url\(| src=[^x]|https?:", text)
