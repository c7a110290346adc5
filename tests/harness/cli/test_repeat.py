"""`feedstorm run --repeat`: what is told of several runs, and of those that were made before something ended them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import pytest

from harness.cli import repeat
from harness.core.errors import InterruptedRun, UnavailableError, UsageError
from harness.core.verdict import Check, CheckKind, Outcome, Verdict
from harness.run.request import RunRequest, read_request

PASS, FAIL = Outcome.PASS, Outcome.FAIL


@pytest.fixture
def request_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunRequest:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return read_request("sse-storm", None, [], None, tmp_path / "run")


def verdict(outcome: Outcome) -> Verdict:
    check = Check(name="order", kind=CheckKind.INVARIANT, verdict=outcome)
    return Verdict(verdict=outcome, scenario="sse-storm", seed=42, checks=[check])


def runs(*results: Outcome | BaseException) -> tuple[Callable[[RunRequest], Verdict], list[str]]:
    """A run that ends as told, one after the other, and the directories it was asked to use."""
    left, places = list(results), []

    def run(request: RunRequest) -> Verdict:
        places.append(request.out.name)
        result = left.pop(0)
        if isinstance(result, BaseException):
            raise result
        return verdict(result)

    return run, places


@pytest.mark.parametrize(("outcomes", "code"), [((PASS, PASS, PASS), 0), ((PASS, FAIL, PASS), 1)])
def test_the_worst_of_all_is_the_exit_code(
    request_made: RunRequest, capsys: pytest.CaptureFixture[str], outcomes: tuple[Outcome, ...], code: int
) -> None:
    run, places = runs(*outcomes)
    with pytest.raises(click.exceptions.Exit) as ended:
        repeat.run_repeatedly(request_made, 3, (), True, run)
    assert ended.value.exit_code == code
    assert places == ["run-1", "run-2", "run-3"]
    told = json.loads(capsys.readouterr().out)["repeats"]
    [rate] = told["checks"]
    assert (rate["name"], rate["passed"], rate["failed"]) == ("order", outcomes.count(PASS), outcomes.count(FAIL))
    assert [one["verdict"] for one in told["runs"]] == list(outcomes)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (InterruptedRun("interrupted; everything was undone"), "interrupted; everything was undone"),
        (KeyboardInterrupt(), "interrupted"),
        (UnavailableError("the stack does not come up"), "the stack does not come up"),
        (ExceptionGroup("of tasks", [UnavailableError("a handle is gone")]), "a handle is gone"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
    ],
)
def test_what_is_known_is_told_before_it_ends(
    request_made: RunRequest, capsys: pytest.CaptureFixture[str], error: BaseException, why: str
) -> None:
    run, _ = runs(PASS, FAIL, error)
    with pytest.raises(type(error)) as raised:
        repeat.run_repeatedly(request_made, 5, (), True, run)
    assert raised.value is error
    told = json.loads(capsys.readouterr().out)["repeats"]
    assert (told["verdict"], told["wanted"], len(told["runs"]), told["ended"]) == ("fail", 5, 2, why)
    run, _ = runs(PASS, error)
    with pytest.raises(type(error)):
        repeat.run_repeatedly(request_made, 5, (), False, run)
    assert f"INCONCLUSIVE sse-storm: 1 of 1 runs passed; 1 of 1 checks in all; 4 runs were not made: {why}." in (
        " ".join(capsys.readouterr().err.split())
    )


def test_nothing_is_told_when_the_first_run_does_not_end(
    request_made: RunRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = runs(InterruptedRun("interrupted"))
    with pytest.raises(InterruptedRun):
        repeat.run_repeatedly(request_made, 2, (), True, run)
    assert capsys.readouterr().out == ""


def test_people_get_a_table_and_a_ci_job_its_summary(
    request_made: RunRequest, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    run, _ = runs(PASS, FAIL)
    with pytest.raises(click.exceptions.Exit):
        repeat.run_repeatedly(request_made, 2, (), False, run)
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert "✗ order 1 of 2 1" in lines
    assert "FAIL sse-storm: 1 of 2 runs passed; 0 of 1 checks in all." in lines
    assert "::error title=sse-storm%3A order::passed in 1 of 2 runs" in lines
    assert "| ❌ | order |  | 1 of 2 |" in summary.read_text()


def test_a_directory_that_holds_a_run_is_not_used_again(request_made: RunRequest, tmp_path: Path) -> None:
    (tmp_path / "run-2").mkdir()
    (tmp_path / "run-2" / "scenario.json").write_text("{}")
    run, places = runs(PASS, PASS)
    with pytest.raises(UsageError, match="run-2: holds a run already"):
        repeat.run_repeatedly(replace(request_made), 2, (), True, run)
    assert places == []
