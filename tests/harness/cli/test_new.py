"""`feedstorm new scenario`: a file that can be run as it is, and never in the place of another."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.new import new
from harness.cli.suite import Options, plan_suite
from harness.core.errors import UsageError
from harness.core.scenario import parse_scenario
from harness.run.request import read_request
from harness.run.scenario_file import read_document
from harness.run.starter import LONGEST_NAME, write_starter


def test_what_is_written_can_be_run_and_proven(tmp_path: Path) -> None:
    done = CliRunner().invoke(new, ["scenario", "owner-pause", "--folder", str(tmp_path)], catch_exceptions=False)
    path = tmp_path / "owner-pause.toml"
    assert (done.exit_code, done.stdout) == (0, f"{path}\n")
    assert read_request(str(path), None, (), None, tmp_path / "run").scenario.name == "owner-pause"
    assert len(plan_suite([str(path)], tmp_path / "suite", Options(scale=2.0), prove=True)) == 2


def test_every_line_that_says_something_is_explained(tmp_path: Path) -> None:
    lines = write_starter("mine", tmp_path).read_text().splitlines()
    tables = [number for number, line in enumerate(lines) if line.startswith("[") and "#" not in line]
    assert [lines[number] for number in tables] == ["[population]", "[[phase]]", "[[phase]]", "[[phase]]"]
    assert {"catalogue", "scale", "population", "load", "phase", "expect"} <= set(read_document(tmp_path / "mine.toml"))


def test_what_stands_behind_a_comment_is_valid_too(tmp_path: Path) -> None:
    path = write_starter("mine", tmp_path)
    switched_on = path.read_text()
    for line in ('# flags = ["two_tier=off"]', '# takes = "60s"', "# [stop]", '# "feed_read" = ["failures < 50%"]'):
        assert line in switched_on
        switched_on = switched_on.replace(line, line.removeprefix("# "))
    path.write_text(switched_on)
    scenario = parse_scenario(read_document(path))
    assert scenario.flags == ("two_tier=off",)
    assert scenario.stop.expressions == {"feed_read": ("failures < 50%",)}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"mine.toml: is there already"):
        write_starter("mine", tmp_path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["", "Owner", "a b", "../a", "a.toml", "-a", "a-", "a--b", "a" * (LONGEST_NAME + 1), "ä"]
)
def test_a_name_that_is_none_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="lower-case words with hyphens"):
        write_starter(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_name_of_a_scenario_that_ships_is_taken(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has a scenario 'sse-storm' already"):
        write_starter("sse-storm", tmp_path)
