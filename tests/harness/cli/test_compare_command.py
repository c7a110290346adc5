"""`feedstorm compare`, `check --expect` and the baseline of a run, on recorded runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from judged_runs import make_runs

from harness.cli.compare import compare
from harness.cli.inspect import check
from harness.cli.output import find_runs, judged_runs
from harness.cli.repeat import run_repeatedly
from harness.core.errors import UsageError
from harness.core.verdict import CheckKind, Outcome, Verdict
from harness.judge.changed_checks import verdict_of
from harness.record.run_directory import RunDirectory
from harness.run.judging import judge_and_store
from harness.run.request import RunRequest, read_request

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    make_runs(folder)
    return folder


@pytest.fixture(autouse=True)
def here(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(recorded)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    return


def ran(command: click.Command, *words: str, **environment: str) -> Result:
    return CliRunner().invoke(command, list(words), env=environment)


def test_a_run_and_its_like_do_not_differ_a_slower_one_is_a_regression() -> None:
    same = ran(compare, "fast", "many-1")
    assert same.exit_code == 0, same.output
    assert "PASS no regression in" in same.stderr
    slower = ran(compare, "fast", "latest")
    assert slower.exit_code == 1
    assert "regressions: feed_read med, feed_read p(95)" in " ".join(slower.stderr.split())
    assert ran(compare, "slow", "fast").exit_code == 0


def test_figures_that_did_not_change_are_counted_also_of_a_run_with_a_baseline(tmp_path: Path) -> None:
    figures = json.loads(ran(compare, "fast", "slow", "--json").stdout)["differences"]
    unchanged = sum(row["finding"] == "no difference shown" and row["verdict"] == "pass" for row in figures)
    judged = sum(not row["skipped"] for row in figures)
    assert 0 < unchanged < judged
    shutil.copytree("runs/slow", tmp_path / "run")
    judge_and_store(RunDirectory(tmp_path / "run"), [RunDirectory(Path("runs/fast"))])
    for words in ([compare, "fast", "slow"], [check, str(tmp_path / "run")]):
        short, whole = ran(*words).stderr, ran(*words, "--all").stderr
        assert f"{unchanged} figures unchanged (--all lists them)" in short
        assert "unchanged" not in whole
        assert whole.count("feed_read") > short.count("feed_read") > 0


def test_as_json_on_standard_output_alone() -> None:
    told = ran(compare, "fast", "slow", "--json")
    document = json.loads(told.stdout)
    assert (told.exit_code, document["verdict"], told.stderr) == (1, "fail", "")
    [row] = [
        d for d in document["differences"]
        if (d["selector"], d["phase"], d["aggregation"]) == ("feed_read", "baseline", "med")
    ]  # fmt: skip
    assert row["change"] == pytest.approx(2.0)
    assert row["low"] <= row["change"] <= row["high"]
    assert row["finding"] == "worse"


def test_the_tolerance_is_an_option() -> None:
    assert ran(compare, "fast", "slow", "--tolerance", "times=400%").exit_code == 0
    words = ["--tolerance", "times=400%", "--tolerance", "feed_read{phase:baseline}=p(95) <= +20%"]
    assert ran(compare, "fast", "slow", *words).exit_code == 1
    unknown = ran(compare, "fast", "slow", "--tolerance", "feed_red=p(95) <= +20%")
    assert isinstance(unknown.exception, UsageError)
    assert "tolerance.feed_red: unknown metric (did you mean 'feed_read'?)" in str(unknown.exception)
    nowhere = ran(compare, "fast", "slow", "--tolerance", "feed_read{phase:midle}=p(95) <= +20%")
    assert "did you mean 'middle'?" in str(nowhere.exception)


def test_repeats_are_found_by_their_name_or_a_pattern(recorded: Path) -> None:
    assert [path.name for path in find_runs("many")] == ["many-1", "many-2"]
    assert [path.name for path in find_runs("runs/many-*")] == ["many-1", "many-2"]
    assert [path.name for path in find_runs(str(recorded / "runs" / "[fm]a*t*"))] == ["fast"]
    assert find_runs("latest") == [Path("runs/latest")]
    assert ran(compare, "many", "fast").exit_code == 0
    for name in ("man", "nothing-*", "nothing"):
        with pytest.raises(UsageError, match="no such run"):
            find_runs(name)


def test_only_judged_runs_of_one_scenario_are_compared(tmp_path: Path) -> None:
    for name in ("x-1", "x-2"):
        shutil.copytree("runs/fast", tmp_path / name)
    verdict = tmp_path / "x-2" / "verdict.json"
    verdict.write_text(verdict.read_text().replace('"scenario": "', '"scenario": "other '))
    with pytest.raises(UsageError, match="matches runs of several scenarios"):
        judged_runs(str(tmp_path / "x"))
    verdict.unlink()
    with pytest.raises(UsageError, match="has no verdict yet; use `feedstorm check"):
        judged_runs(str(tmp_path / "x"))


@pytest.mark.parametrize("name", ["verdict.json", "scenario.json", "phases.json", "target.json"])
@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00 no JSON", None])
def test_a_damaged_file_of_a_run_is_named(tmp_path: Path, name: str, data: bytes | None) -> None:
    shutil.copytree("runs/fast", tmp_path / "run")
    damaged = tmp_path / "run" / name
    damaged.unlink()
    if data is not None:
        damaged.write_bytes(data)
    told = ran(compare, "fast", str(tmp_path / "run"))
    assert isinstance(told.exception, UsageError)
    assert name in str(told.exception) or data is None  # some that are missing are told in other words
    if name != "verdict.json" and data is not None:
        again = ran(check, str(tmp_path / "run"))
        assert isinstance(again.exception, UsageError)
        assert f"{name}: damaged: " in str(again.exception)


@pytest.mark.parametrize("name", ["offsets.npy", "followees.npy", "hot.npy", "population.json"])
def test_a_damaged_population_of_a_run_is_named(tmp_path: Path, name: str) -> None:
    shutil.copytree("runs/fast", tmp_path / "run")
    damaged = tmp_path / "run" / "population" / name
    for data in (b"", b"\xff" * 300):
        damaged.write_bytes(data)
        told = ran(check, str(tmp_path / "run"))
        assert isinstance(told.exception, UsageError)
        assert f"{damaged}: damaged: " in str(told.exception)


def test_damaged_samples_are_made_again(tmp_path: Path) -> None:
    shutil.copytree("runs/fast", tmp_path / "run")
    samples = tmp_path / "run" / "samples.parquet"
    whole = samples.read_bytes()
    for data in (b"no Parquet", whole[:-100], whole[:200] + bytes(100) + whole[300:]):
        samples.write_bytes(data)
        assert ran(compare, "fast", str(tmp_path / "run")).exit_code == 0
        assert samples.read_bytes() != data


def test_a_ci_job_gets_a_step_summary_and_annotations(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    told = ran(compare, "fast", "slow", "--json", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY=str(summary))
    assert summary.read_text().startswith("## ❌ FAIL: compared with fast")
    assert "| ❌ | feed\\_read med | baseline |" in summary.read_text()
    commands = [line for line in told.stderr.splitlines() if line.startswith("::")]
    assert any(line.startswith("::error title=feed_read med in baseline::") for line in commands)
    json.loads(told.stdout)
    failing = ran(compare, "fast", "fast", GITHUB_STEP_SUMMARY=str(tmp_path))
    assert failing.exit_code == 0
    assert "note: no step summary" in failing.stderr


def rules(folder: Path, text: str) -> str:
    path = folder / "rules.toml"
    path.write_text(text)
    return str(path)


def test_an_old_run_is_judged_by_new_rules_and_keeps_its_verdict(tmp_path: Path) -> None:
    shutil.copytree("runs/fast", tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    before = {path: path.read_bytes() for path in (run.verdict, run.junit, run.summary, run.report, run.scenario)}
    strict = rules(tmp_path, '[expect]\nfeed_read = ["max <= 1us", "p(50) <= 10s"]\ninvariants = []\n')
    summary = tmp_path / "step.md"
    told = ran(check, str(run.path), "--expect", strict, "--json", GITHUB_STEP_SUMMARY=str(summary))
    assert told.exit_code == 1
    assert "## ❌ FAIL" in summary.read_text()
    verdict = json.loads(told.stdout)
    slos = {c["name"]: c["verdict"] for c in verdict["checks"] if c["kind"] == "slo"}
    assert slos == {"feed_read max <= 1us": "fail", "feed_read p(50) <= 10s": "pass"}
    assert "durability" not in {c["name"] for c in verdict["checks"]}
    assert {path: path.read_bytes() for path in before} == before
    assert ran(check, str(run.path), "--expect", strict, "--save").exit_code == 1
    assert json.loads(run.verdict.read_bytes())["verdict"] == "fail"
    assert "max &lt;= 1us" in run.junit.read_text()
    assert run.scenario.read_bytes() == before[run.scenario]
    assert ran(check, str(run.path)).exit_code == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[expct]\n", "rules.toml: expct: unknown key (did you mean 'expect'?)"),
        ('name = "x"\n', "rules.toml: expect: is required"),
        ("expect = 3\n", "rules.toml: expect: must be a table, got 3"),
        (
            '[expect]\nfeed_red = "max <= 1s"\n',
            "rules.toml: expect.feed_red: unknown metric (did you mean 'feed_read'?)",
        ),
        (
            '[expect]\n"feed_read{phase:basline}" = "max <= 1s"\n',
            "phase cannot be 'basline' (did you mean 'baseline'?)",
        ),
        ('[expect]\n"feed_read{region:us-est}" = "max <= 1s"\n', "region cannot be 'us-est' (did you mean 'us-east'?)"),
        (
            '[expect]\nfeed_read = [{threshold = "max <= 1s", abortOnFail = true}]\n',
            "stands in [stop], with stop.delay",
        ),
        ("[expect\n", "rules.toml: not valid TOML"),
    ],
)
def test_each_problem_of_new_rules_is_named_with_the_file(tmp_path: Path, text: str, problem: str) -> None:
    told = ran(check, "fast", "--expect", rules(tmp_path, text))
    assert isinstance(told.exception, UsageError)
    assert problem in str(told.exception)


def test_rules_that_are_not_there_and_saving_nothing_are_usage_errors(tmp_path: Path) -> None:
    assert "cannot be read" in str(ran(check, "fast", "--expect", str(tmp_path / "none.toml")).exception)
    assert "--save: goes with --expect" in str(ran(check, "fast", "--save").exception)


def test_a_whole_scenario_will_do_as_rules() -> None:
    scenario = Path(__file__).parents[3] / "scenarios" / "sse-storm.toml"
    told = ran(check, "fast", "--expect", str(scenario))
    assert "unknown key" not in str(told.exception)


def test_a_baseline_is_part_of_verdict_reports_and_later_judgements(tmp_path: Path) -> None:
    shutil.copytree("runs/slow", tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    assert judge_and_store(run).verdict is Outcome.PASS
    verdict = judge_and_store(run, [RunDirectory(Path("runs/fast"))])
    assert verdict.verdict is Outcome.FAIL
    broken = {c.name for c in verdict.checks if c.verdict is Outcome.FAIL}
    assert {"feed_read med against the baseline", "feed_read p(95) against the baseline"} <= broken
    assert all(name.endswith("against the baseline") for name in broken)
    assert not any(c.skipped for c in verdict.checks if c.kind is CheckKind.BASELINE)
    assert json.loads(run.comparison.read_bytes())["before"] == ["fast"]
    for path in (run.junit, run.summary, run.report):
        assert "against the baseline" in path.read_text()
    assert judge_and_store(run) == verdict
    assert judge_and_store(run, [RunDirectory(Path("runs/slow"))]).verdict is Outcome.PASS


@pytest.mark.parametrize(("like", "code", "verdict"), [("fast", 0, "pass"), ("slow", 1, "fail")])
def test_repeats_are_compared_with_a_baseline_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], like: str, code: int, verdict: str
) -> None:
    def run(request: RunRequest) -> Verdict:
        shutil.copytree(f"runs/{like}", request.out)
        return verdict_of(RunDirectory(request.out))

    request = read_request("sse-storm", None, [], None, tmp_path / "run")
    with pytest.raises(click.exceptions.Exit) as ended:
        run_repeatedly(request, 2, judged_runs("fast"), True, run)
    assert ended.value.exit_code == code
    told = json.loads(capsys.readouterr().out)
    assert (told["comparison"]["verdict"], told["repeats"]["verdict"]) == (verdict, verdict)
    assert told["comparison"]["after"] == ["run-1", "run-2"]
    assert {run["verdict"] for run in told["repeats"]["runs"]} == {"pass"}
