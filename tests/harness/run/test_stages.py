"""Healing and opening touch only run directories, and `latest` only when it is a link."""

import pytest

from harness.core.errors import UsageError
from harness.record.history import being_written
from harness.record.run_directory import SUITE, RunDirectory
from harness.run.stages import heal_older_runs, link_latest, open_run


def make_run(path):
    (path / "stack").mkdir(parents=True)
    for name in ("manifest.json", "scenario.json", "tokens.json"):
        (path / name).write_text("{}")
    return path


def test_a_killed_run_loses_its_stack_and_its_tokens_and_keeps_the_rest(tmp_path):
    run = make_run(tmp_path / "old")
    heal_older_runs(tmp_path)
    assert sorted(p.name for p in run.iterdir()) == ["manifest.json", "scenario.json"]


def test_folders_that_are_no_runs_are_left_alone(tmp_path):
    (tmp_path / "project" / "stack").mkdir(parents=True)
    (tmp_path / "project" / "ledger.jsonl").write_text("not a ledger")
    heal_older_runs(tmp_path)
    assert (tmp_path / "project" / "stack").is_dir()


def test_runs_of_a_suite_are_healed_with_those_beside_it(tmp_path):
    suite = tmp_path / "20260101-120000-suite"
    run, other = make_run(suite / "01-cache-kill"), make_run(tmp_path / "project" / "old")
    (suite / SUITE).write_text("{}")
    heal_older_runs(tmp_path)
    assert not (run / "stack").exists()
    assert (other / "stack").is_dir()  # its folder is no suite


def test_a_link_to_a_suite_is_not_followed(tmp_path):
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    run = make_run(elsewhere / "01-cache-kill")
    (elsewhere / SUITE).write_text("{}")
    runs.mkdir()
    (runs / "suite").symlink_to(elsewhere)
    heal_older_runs(runs)
    assert (run / "stack").is_dir()


def test_latest_points_at_the_newest_run(tmp_path):
    for name in ("a", "b"):
        link_latest(make_run(tmp_path / name))
    assert (tmp_path / "latest").resolve() == (tmp_path / "b").resolve()


def test_a_file_called_latest_is_nobodys_link(tmp_path):
    (tmp_path / "latest").write_text("mine")
    link_latest(make_run(tmp_path / "a"))
    assert (tmp_path / "latest").read_text() == "mine"


def names(path):
    return {str(one.relative_to(path)) for one in path.rglob("*")}


EMPTY = {"history", "histograms", "population", "logs"}


def test_what_a_start_that_failed_left_goes_and_anything_else_stays(tmp_path):
    run = RunDirectory(make_run(tmp_path / "run")).create()
    for name in ("history/locust-0.jsonl", "logs/target.log", "population/index.json", "clocks.jsonl", "trace.csv"):
        (run.path / name).write_text("left")
    (run.path / "notes.txt").write_text("mine")
    assert not run.is_taken()
    assert names(open_run(run.path).path) == EMPTY | {"notes.txt"}


@pytest.mark.parametrize("begun", ["phases.json", "verdict.json"])
def test_a_run_that_had_load_is_not_touched(tmp_path, begun):
    run = RunDirectory(make_run(tmp_path / "run")).create()
    (run.path / begun).write_text("[]")
    before = names(run.path)
    assert run.is_taken()
    assert names(open_run(run.path).path) == before


def test_nor_is_a_scenario_without_a_run(tmp_path):
    mine = tmp_path / "scenario.json"
    mine.write_text("{}")
    assert RunDirectory(tmp_path).is_taken()
    open_run(tmp_path)
    assert mine.read_text() == "{}"


def test_two_runs_cannot_start_in_one_directory(tmp_path):
    run = RunDirectory(make_run(tmp_path / "run")).create()
    before = names(run.path)
    with being_written(run.history), pytest.raises(UsageError, match="a run is starting there"):
        open_run(run.path)
    assert names(run.path) == before
