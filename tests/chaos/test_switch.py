"""The switch that forbids faults holds for a folder of runs, and for those of a suite in it."""

from pathlib import Path

from chaos.switch import DEFAULT_REASON, Switch


def test_the_runs_of_a_suite_obey_the_folder_above(tmp_path: Path) -> None:
    runs, suite = Switch(tmp_path), Switch(tmp_path / "20260101-120000-suite")
    assert suite.reason == ""
    runs.forbid("customers complain")
    assert suite.reason == "customers complain"
    assert runs.allow()
    assert suite.reason == ""


def test_the_folder_above_does_not_obey_a_suite(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    Switch(folder).forbid()
    assert (Switch(folder).reason, Switch(tmp_path).reason) == (DEFAULT_REASON, "")
