"""`feedstorm suite`: what is told and written of several runs, and the exit code, whatever becomes of one of them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
import pytest

from harness.cli import feedstorm
from harness.cli.output import find_run, find_runs
from harness.cli.suite import Options, Planned, chosen_scenarios, plan_suite, run_suite
from harness.core.errors import ExitCode, InterruptedRun, ResidueError, UnavailableError, UsageError
from harness.core.verdict import Check, CheckKind, Outcome, Verdict
from harness.record.run_directory import RunDirectory
from harness.run.request import RunRequest

PASS, FAIL, UNSURE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
NAMES = ["sse-storm", "region-lag", "consistency"]
Result = Outcome | BaseException


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return tmp_path / "suite"


def runs(*results: Result) -> Callable[[RunRequest], Verdict]:
    """Runs that end as told, one after the other; each leaves a verdict as a real one does."""
    left = list(results)

    def run(request: RunRequest) -> Verdict:
        result = left.pop(0)
        if isinstance(result, BaseException):
            raise result
        evidence = ["post p1 is missing"] if result is FAIL else []
        check = Check(name="durability", kind=CheckKind.INVARIANT, verdict=result, observations=9, evidence=evidence)
        verdict = Verdict(verdict=result, scenario=request.scenario.name, seed=42, checks=[check])
        RunDirectory(request.out).create().verdict.write_bytes(msgspec.json.encode(verdict))
        return verdict

    return run


def ended(planned: list[Planned], out: Path, *results: Result, **options: bool) -> int:
    """Run the suite; its exit code."""
    with pytest.raises(click.exceptions.Exit) as exit_:
        run_suite(planned, out, run=runs(*results), **options)
    return exit_.value.exit_code


def planned(out: Path, *names: str, prove: bool = False) -> list[Planned]:
    return plan_suite(names, out, Options(), prove=prove)


def written(out: Path) -> dict[str, object]:
    return json.loads((out / "suite.json").read_text())


def suites(out: Path) -> dict[str, ET.Element]:
    return {suite.get("name", ""): suite for suite in ET.fromstring((out / "junit.xml").read_bytes())}


def test_each_run_gets_a_directory_within_that_of_the_suite(out: Path) -> None:
    places = [one.request.out for one in planned(out, *NAMES)]
    assert places == [out / "01-sse-storm", out / "02-region-lag", out / "03-consistency"]


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ((PASS, PASS, PASS), ExitCode.PASS),
        ((PASS, UNSURE, PASS), ExitCode.INCONCLUSIVE),
        ((UNSURE, FAIL, PASS), ExitCode.FAIL),
        ((FAIL, UnavailableError("no toxiproxy"), PASS), ExitCode.ENVIRONMENT),
        ((UnavailableError("no toxiproxy"), KeyError("a bug"), FAIL), ExitCode.INTERNAL),
    ],
)
def test_the_gravest_is_the_exit_code_and_the_others_are_run(
    out: Path, results: tuple[Result, ...], code: ExitCode
) -> None:
    assert ended(planned(out, *NAMES), out, *results) == code
    told = written(out)
    assert told["exit_code"] == code
    assert [run["scenario"] for run in told["suite"]["runs"]] == NAMES


def test_people_get_a_line_a_run_and_a_table(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended(planned(out, *NAMES), out, PASS, FAIL, UnavailableError("scenario consistency needs memcached"))
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert "✓ 1/3 pass sse-storm 0 s sse-storm: all 1 checks passed." in lines
    assert "✗ 2/3 fail region-lag 0 s region-lag: 1 of 1 checks failed: durability." in lines
    assert "? 3/3 error consistency 0 s scenario consistency needs memcached" in lines
    assert "✗ region-lag fail 0 s durability" in lines
    assert "INCONCLUSIVE 1 of 3 scenarios passed, in 0 s." in lines


def test_the_page_shows_the_runs_and_the_options(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(seed=7, scale=0.5, assignments=("load.posts=9/s",))
    two = plan_suite(NAMES[:2], out, options)
    with pytest.raises(click.exceptions.Exit):
        run_suite(two, out, options.asked, run=runs(PASS, FAIL))
    text = (out / "index.html").read_text()
    assert [text.count(f">{name}<") for name in NAMES] == [1, 1, 0]
    for fact in ("<dt>Seed</dt><dd>7</dd>", "<dt>Scale</dt><dd>0.5</dd>", "<dt>Set</dt><dd>load.posts=9/s</dd>"):
        assert fact in text
    assert "<dt>Workers</dt>" not in text
    assert f"report: {out}/index.html" in capsys.readouterr().err


def test_the_latest_is_the_suite_and_its_last_run(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(planned(out, "sse-storm"), out, PASS)
    latest = out.parent / "latest"
    assert latest.resolve() == out.resolve()
    run = out / "01-sse-storm"
    (run / "scenario.json").write_text("{}")
    (out / "latest").symlink_to(run.name)  # as a real run does
    assert find_run("latest", out.parent).resolve() == run.resolve()
    assert [one.resolve() for one in find_runs("latest", out.parent)] == [run.resolve()]


def test_junit_has_a_suite_a_scenario_and_the_evidence(out: Path) -> None:
    ended(planned(out, *NAMES), out, PASS, FAIL, UnavailableError("no memcached"))
    root = ET.fromstring((out / "junit.xml").read_bytes())
    assert {key: root.get(key) for key in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "1",
        "errors": "1",
    }
    found = suites(out)
    failure = found["region-lag"].find("testcase/failure")
    assert failure is not None
    assert failure.text == "post p1 is missing"
    error = found["consistency"].find("testcase/error")
    assert error is not None
    assert (error.get("type"), error.text) == ("not judged", "no memcached")


def test_a_ci_job_gets_summary_and_annotations(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = tmp_path / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    ended(planned(out, *NAMES), out, PASS, FAIL, UnavailableError("no memcached"))
    summary = step.read_text()
    assert summary.strip() == (out / "summary.md").read_text().strip()
    assert "| ❌ | region-lag | fail | 0 s | durability |" in summary
    assert "## ❌ FAIL: region-lag" in summary
    assert "post p1 is missing" in summary
    told = capsys.readouterr().err.splitlines()
    assert "::error title=region-lag%3A durability::post p1 is missing" in told
    assert "::warning title=consistency::no memcached" in told


@pytest.mark.parametrize("error", [InterruptedRun("interrupted; everything was undone"), KeyboardInterrupt()])
def test_what_was_done_is_told_and_written_when_it_is_interrupted(
    out: Path, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    with pytest.raises(type(error)) as raised:
        run_suite(planned(out, *NAMES), out, as_json=True, run=runs(PASS, error))
    assert raised.value is error
    told = json.loads(capsys.readouterr().out)
    assert told == written(out)
    assert told["summary"] == "1 of 1 scenarios passed, in 0 s; 2 runs were not made: interrupted."
    assert told["verdict"] == "inconclusive"
    assert list(suites(out)) == ["sse-storm"]
    assert "2 runs were not made: interrupted." in (out / "index.html").read_text()


def test_a_fault_left_behind_ends_it(out: Path) -> None:
    assert ended(planned(out, *NAMES), out, FAIL, ResidueError("kill of us-east.api")) == ExitCode.RESIDUE
    told = written(out)["suite"]
    assert (len(told["runs"]), told["ended"]) == (2, "a fault could not be undone")


def test_a_group_of_errors_is_told_by_its_foremost(out: Path) -> None:
    group = ExceptionGroup("two tasks", [UnavailableError("gone"), ResidueError("kill of us-east.api")])
    assert ended(planned(out, "sse-storm"), out, group) == ExitCode.RESIDUE


def test_fail_fast_ends_with_the_first_that_does_not_pass(out: Path) -> None:
    assert ended(planned(out, *NAMES), out, PASS, FAIL, fail_fast=True) == ExitCode.FAIL
    assert written(out)["suite"]["ended"] == "the first that did not pass ended it"


def test_what_has_to_fail_is_run_with_it(out: Path) -> None:
    runs_ = planned(out, "celebrity-cache-kill", prove=True)
    assert [one.request.out.name for one in runs_] == [
        "01-celebrity-cache-kill",
        "02-celebrity-cache-kill-no-wal",
        "03-celebrity-cache-kill-skip-notify",
    ]
    assert [one.request.defects for one in runs_] == [(), ("no-wal",), ("skip-notify",)]


def test_a_flag_that_makes_it_fail_is_set(out: Path) -> None:
    [clean, flagged] = planned(out, "signup-surge", prove=True)
    assert (clean.request.flags, flagged.request.flags) == ((), ("async_import=off",))
    assert flagged.request.out.name == "02-signup-surge-async_import-off"


@pytest.mark.parametrize(
    ("results", "code", "words"),
    [
        ((PASS, FAIL), ExitCode.PASS, ["pass", "caught"]),
        ((PASS, PASS), ExitCode.FAIL, ["pass", "missed"]),
        ((PASS, UNSURE), ExitCode.INCONCLUSIVE, ["pass", "unknown"]),
    ],
)
def test_to_fail_when_it_has_to_is_to_pass(
    out: Path, capsys: pytest.CaptureFixture[str], results: tuple[Result, ...], code: ExitCode, words: list[str]
) -> None:
    both = planned(out, "random-faults", prove=True)  # lose-after-ack, seen by durability
    assert ended(both, out, *results) == code
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert [line.split()[2] for line in lines if "/2 " in line] == words
    case = suites(out)["random-faults --defect lose-after-ack"].find("testcase")
    assert case is not None
    assert case.get("name") == "durability fails"
    assert [child.tag for child in case] == {PASS: ["failure"], UNSURE: ["error"], FAIL: []}[results[1]]


def test_a_check_that_is_not_there_has_caught_nothing(out: Path) -> None:
    both = planned(
        out, "sse-storm", prove=True
    )  # no-resume, seen by sse_completeness, of which these runs know nothing
    assert ended(both, out, PASS, FAIL) == ExitCode.INCONCLUSIVE
    assert written(out)["suite"]["runs"][1]["says"] == "the run has no check sse_completeness"


def test_every_problem_of_every_scenario_is_told_before_the_first_begins(out: Path) -> None:
    with pytest.raises(UsageError) as error:
        plan_suite(["sse-storm", "sse-strom", "region-lag"], out, Options(assignments=("load.raeds=1/s",)))
    assert error.value.problems == [
        "sse-storm, region-lag: load.raeds: unknown key (did you mean 'reads'?)",
        "scenario 'sse-strom': unknown (did you mean 'sse-storm'?); a path ends in .toml",
    ]
    assert not out.exists()


def test_a_problem_of_all_scenarios_is_told_once(out: Path) -> None:
    names = ["sse-storm", "region-lag", "cache-kill", "visibility", "cache-flush"]
    with pytest.raises(UsageError, match=r"^sse-storm, region-lag, cache-kill and 2 more: load\.raeds: unknown key"):
        plan_suite(names, out, Options(assignments=("load.raeds=1/s",)))


@pytest.mark.parametrize("command", ["run", "suite"])
@pytest.mark.parametrize(("scale", "told"), [("0.3", 1), ("1", 0)])
def test_a_threshold_that_lacks_samples_is_told_before_the_run(
    out: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    scale: str,
    told: int,
) -> None:
    def begins(*_: object, **__: object) -> None:
        raise UnavailableError("the run begins")

    monkeypatch.setattr("harness.cli.run.run_once", begins)
    monkeypatch.setattr("harness.cli.suite.run_suite", begins)
    with pytest.raises(UnavailableError, match="the run begins"):
        feedstorm.main([command, "cache-kill", "--scale", scale, "--out", str(out)], standalone_mode=False)
    words = "warning: cache-kill: post_accept p(99) <= 500ms needs 100 samples, about 90 are due in baseline: "
    said = capsys.readouterr().err
    assert (said.count(words), said.count("warning")) == (told, told)


def test_nothing_can_be_proven_of_a_scenario_that_does_not_say_what_makes_it_fail(out: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('name = "mine"\nabout = "y"\n[[phase]]\nname = "a"\nduration = "1s"\n')
    assert len(plan_suite([str(mine)], out, Options())) == 1
    with pytest.raises(UsageError, match=r"mine.toml: does not say what makes it fail"):
        plan_suite([str(mine)], out, Options(), prove=True)


def test_all_options_reach_every_run(out: Path) -> None:
    options = Options(seed=7, scale=0.5, assignments=("load.posts=9/s",))
    [storm, lag] = plan_suite(["sse-storm", "region-lag"], out, options)
    assert (storm.request.scenario.seed, storm.request.scenario.population.users) == (7, 10_000)
    assert (lag.request.scenario.population.users, lag.request.scenario.load.posts_per_s) == (5_000, 9)


def test_the_load_of_every_run_is_shared_out(out: Path) -> None:
    [storm] = plan_suite(["sse-storm"], out, Options(workers=2))
    assert storm.request.workers == 2
    with pytest.raises(UsageError, match=r"consistency: --workers 40: 40 processes need population\.panel"):
        plan_suite(["consistency"], out, Options(workers=40))


def test_scenarios_are_named_or_chosen_by_tag() -> None:
    assert chosen_scenarios(["b.toml", "sse-storm"], ()) == ["b.toml", "sse-storm"]
    assert chosen_scenarios((), ()) == chosen_scenarios((), ["ci"])
    assert "celebrity-cache-kill" in chosen_scenarios((), ())
    with pytest.raises(UsageError, match="name scenarios, or choose them by --tag"):
        chosen_scenarios(["sse-storm"], ["ci"])
    with pytest.raises(UsageError, match=r"no scenario has 'nigthly' \(did you mean 'nightly'\?\)"):
        chosen_scenarios((), ["nigthly"])
