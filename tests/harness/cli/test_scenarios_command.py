"""`feedstorm scenarios`: a table that fits the terminal, a page, and the same for machines."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from harness.cli.inspect import scenarios
from harness.cli.tags import tagged
from harness.core.scenario import parse_scenario
from harness.report.catalogue import print_scenarios, row, size_text, time_text
from harness.run.scenario_file import scenario_paths

TOLD = {"story": "s", "real": "r", "ratios": "k", "fails_with": [{"defect": "no-wal", "check": "durability"}]}
MINIMAL = {"name": "x", "about": "y", "phase": [{"name": "a", "duration": "90s"}]}


def asked(*words: str) -> Result:
    return CliRunner().invoke(scenarios, words, catch_exceptions=False)


def test_machines_get_all_of_it() -> None:
    rows = {one["name"]: one for one in json.loads(asked("--json").output)}
    assert set(rows) == set(scenario_paths())
    kill = rows["celebrity-cache-kill"]
    assert kill["tags"] == ["ci", "demo"]
    assert kill["size"].startswith(
        "20,000 users x 50 follows, celebrities of 10,000 followers, 2,000 streams; 40 posts/s"
    )
    assert kill["fails_with"][0] == {"check": "durability", "defect": "no-wal", "flag": "", "seen": True}


def test_a_tag_chooses() -> None:
    names = [one["name"] for one in json.loads(asked("--tag", "ci", "--json").output)]
    assert "celebrity-cache-kill" in names
    assert "sse-storm" not in names
    several = [one["name"] for one in json.loads(asked("--tag", "ci", "--tag", "nightly", "--json").output)]
    assert {*names, "sse-storm"} <= set(several)


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_says_what_people_look_for(width: int) -> None:
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        print_scenarios(tagged(), console)
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    told = " ".join(" ".join(lines).split())
    assert all(name in told for name in scenario_paths())
    [first] = [line for line in lines if line.startswith("sse-storm ")]
    assert "nightly" in first
    assert first.split()[2:4] == [">", "50"]  # nobody has said how long it takes: its phases and warm-up
    assert "> its phases take that long" in told


def test_they_come_in_the_order_of_the_catalogue() -> None:
    numbers = [one.catalogue.number for one in tagged() if one.catalogue and one.catalogue.number]
    assert numbers == sorted(numbers)
    assert [one.catalogue.number for one in tagged() if one.catalogue][-1] is None


def test_sizes_and_times_in_words() -> None:
    small = parse_scenario(
        MINIMAL
        | {
            "population": {"users": 1200, "joined": "none", "celebrities": [800, 90], "mean_follows": 5},
            "load": {"signup_curve": True, "reads": "12/min"},
        }
    )
    assert size_text(small) == (
        "1,200 users x 5 follows, celebrities of 800, 90 followers; 0.2 reads/s, the signup curve over 90 s"
    )
    people = {"users": 500, "panel": 9, "late_celebrities": [90], "hyper_followers": [70, 300], "newcomers": 40}
    joining = {"population": people, "load": {"signups": "2/s", "celebrity_signups": "3/min"}}
    assert size_text(parse_scenario(MINIMAL | joining)) == (
        "500 users x 50 follows, late celebrities of 90 followers, 2 users with up to 300 follows, 40 newcomers; "
        "2 signups/s, 0.05 celebrity signups/s"
    )
    assert time_text(small) == "> 95 s"
    assert time_text(parse_scenario(MINIMAL | {"catalogue": TOLD | {"takes": "150s"}})) == "2.5 min"
    assert row(small)["fails_with"] == ()
