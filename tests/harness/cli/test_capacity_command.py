"""`feedstorm capacity`: what is told and written of a search over a target whose capacity is known."""

import asyncio
import json
import os
import signal

import click
import pytest
from click.testing import CliRunner

from harness.cli import feedstorm
from harness.cli.capacity import Plan, made_steps, run_search
from harness.core.errors import ExitCode, InterruptedRun, UnavailableError, UsageError
from harness.core.knobs import RATES, find_knob
from harness.core.verdict import Check, CheckKind, Outcome, Verdict
from harness.judge.capacity import Goodput, Search
from harness.judge.saturation import Pressure
from harness.record.run_directory import run_folders
from harness.run.request import read_request
from harness.run.steps import StepResult

ONE = 216.0  # arrivals a second of steady-peak: posts, reads, likes, replies
API = Pressure(
    part="us-east.api", used=0.97, says="its busiest thread ran 97 % of the time", signs=["loop lag p99 80 ms"]
)
GENERATOR = Pressure(part="generator locust-0", used=0.99, says="its busiest thread ran 99 % of the time")
MACHINE = Pressure(part="the machine", used=0.81, says="81 % of its 2 processors were busy")


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return tmp_path / "search"


def plan(out, limit_s=1e9, **search):
    request = read_request("steady-peak", None, (), None, out)
    return Plan(request, find_knob(RATES, request.scenario), Search(**search), limit_s, keep=True)


class System:
    """A target that takes up to `capacity` arrivals a second, and a generator that makes up to `generator`."""

    def __init__(self, capacity, generator=1e9, ends=()):
        self.capacity, self.generator, self.ends = capacity, generator, dict(ends)
        self.requests = []

    async def step(self, request):
        self.requests.append(request)
        if error := self.ends.get(len(self.requests)):
            raise error
        load = request.scenario.load
        asked = load.posts_per_s + load.reads_per_s + load.likes_per_s + load.replies_per_s
        good = min(asked, self.capacity)
        outcome = Outcome.PASS if asked <= self.capacity else Outcome.FAIL
        sound = Outcome.PASS if asked <= self.generator else Outcome.INCONCLUSIVE
        checks = [
            Check(name="feed_read p(99) <= 200ms", kind=CheckKind.SLO, verdict=outcome),
            Check(name="generator", kind=CheckKind.GENERATOR, verdict=sound, reason="locust-0 dropped 9 arrivals"),
        ]
        worst = outcome if outcome is Outcome.FAIL else sound
        who = GENERATOR if asked > self.generator else API
        return StepResult(
            verdict=Verdict(verdict=worst, scenario="steady-peak", seed=42, checks=checks),
            goodput=Goodput(offered_per_s=asked, good_per_s=good, refused={"503": 12} if good < asked else {}),
            pressures=[who, MACHINE],
        )


def ended(search, system, **options):
    with pytest.raises(click.exceptions.Exit) as exit_:
        run_search(search, step=system.step, **options)
    return exit_.value.exit_code


def written(out):
    return json.loads((out / "capacity.json").read_text())


def test_the_interval_is_found_told_and_written(out, capsys):
    system = System(700)
    assert ended(plan(out), system, as_json=True) == ExitCode.PASS
    told = json.loads(capsys.readouterr().out)
    assert told == written(out)
    interval = told["capacity"]["interval"]
    assert interval["held"]["factor"] * ONE <= 700 < interval["failed"]["factor"] * ONE
    assert interval["failed"]["factor"] <= 1.101 * interval["held"]["factor"]
    assert (interval["held"]["held"], interval["failed"]["failed"]) == (3, 3)
    assert told["found"]
    assert [request.out.name for request in system.requests[:3]] == ["01-216", "02-432", "03-864"]
    assert [step["run"] for step in told["capacity"]["steps"]] == [request.out.name for request in system.requests]
    assert out in run_folders(out.parent)


def test_people_get_a_line_a_step_a_table_and_what_was_at_its_end(out, capsys):
    ended(plan(out), System(700))
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == "steady-peak, rates: 216/s is what it says; steps of 60 s; one target serves several steps"
    assert "✓ step 1: 216/s (x1) held 0 s" in lines
    assert "✗ step 3: 864/s (x4) failed 0 s feed_read p(99) <= 200ms" in lines
    assert "✗ 864/s 1 864.0/s 700.0/s 12 x 503 feed_read p(99) <= 200ms" in lines
    [found] = [line for line in lines if line.startswith("FOUND")]
    assert found.startswith("FOUND steady-peak, rates: ")
    assert "held (3 of 3) and " in found
    assert "failed (3 of 3)." in found
    assert any("a step holds at the lower end more often than 37 % of the time" in line for line in lines)
    [first] = [line for line in lines if "the first at its limit is us-east.api" in line]
    assert "97 % of the time; loop lag p99 80 ms." in first
    assert "Next: the machine: 81 % of its 2 processors were busy." in lines


def test_a_generator_at_its_end_is_not_the_targets(out, capsys):
    assert ended(plan(out), System(5000, generator=600)) == ExitCode.INCONCLUSIVE
    interval = written(out)["capacity"]["interval"]
    assert interval["failed"] is None
    assert interval["held"]["factor"] * ONE <= 600 < interval["unclear"]["factor"] * ONE
    said = " ".join(capsys.readouterr().err.split())
    assert "no capacity found: the load could not be made as asked" in said
    assert (
        "could not be judged: locust-0 dropped 9 arrivals; the generator, not the target, is at its end "
        "(generator locust-0: its busiest thread ran 99 % of the time)."
    ) in said


def test_nothing_near_its_limit_is_no_culprit(out, capsys, monkeypatch):
    monkeypatch.setattr(API, "used", 0.4)
    monkeypatch.setattr(MACHINE, "used", 0.3)
    ended(plan(out), System(700))
    said = " ".join(capsys.readouterr().err.split())
    assert "nothing is near its limit; what fails waits for something else" in said
    assert "Nearest: us-east.api" in said


def test_no_step_is_begun_that_would_end_after_the_limit(out):
    system = System(700)
    assert ended(plan(out, limit_s=0), system) == ExitCode.INCONCLUSIVE
    assert len(system.requests) == 1
    assert written(out)["capacity"]["interval"]["reason"].startswith("the time is over")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InterruptedRun("interrupted; everything was undone"), "interrupted"),
        (UnavailableError("target reference is not there"), "target reference is not there"),
        (ExceptionGroup("of tasks", [UnavailableError("target reference is gone")]), "target reference is gone"),
    ],
)  # fmt: skip
def test_what_was_found_so_far_is_told_when_it_ends_early(out, capsys, error, reason):
    with pytest.raises(type(error)) as raised:
        run_search(plan(out), as_json=True, step=System(700, ends={4: error}).step)
    assert raised.value is error
    told = json.loads(capsys.readouterr().out)
    interval = told["capacity"]["interval"]
    assert (interval["held"]["factor"], interval["failed"]["factor"]) == (2, 4)
    assert (interval["found"], interval["reason"]) == (False, reason)
    assert len(told["capacity"]["steps"]) == 3


def test_an_interrupt_in_the_middle_of_a_step_becomes_one_of_the_search(out):
    async def step(request):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()

    with pytest.raises(InterruptedRun):
        run_search(plan(out), step=step)
    assert written(out)["capacity"]["interval"]["reason"] == "interrupted"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["steady-peak", "--find", "load.raeds"], "did you mean 'load.reads'?"),
        (["steady-peak", "--start", "0"], "--start: must be a number from 0.001 to 1000, got 0"),
        (["steady-peak", "--start", "nan"], "--start: must be a number from 0.001 to 1000, got nan"),
        (["steady-peak", "--start", "1e300"], "--start: must be a number from 0.001 to 1000, got 1e+300"),
        (["steady-peak", "--tolerance", "nan"], "--tolerance: must be a number, got nan"),
        (["steady-peak", "--for", "1s"], "--for: must be 5s or more, got 1s"),
        (["steady-peak", "--set", "load.raeds=1/s"], "load.raeds: unknown key"),
        (["region-lag", "--find", "load.likes"], "scenario region-lag has no such load"),
    ],
)
def test_what_cannot_be_searched_is_told_before_anything_starts(words, problem, tmp_path):
    result = CliRunner().invoke(feedstorm, ["capacity", *words, "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, UsageError)
    assert problem in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_duration_that_is_none_is_told():
    result = CliRunner().invoke(feedstorm, ["capacity", "steady-peak", "--limit", "soon"])
    assert result.exit_code == ExitCode.USAGE
    assert "must be a duration such as 10s" in result.output


def test_a_directory_with_a_search_in_it_is_left_alone(out):
    ended(plan(out), System(300))
    result = CliRunner().invoke(feedstorm, ["capacity", "steady-peak", "--out", str(out)])
    assert "holds a search already" in str(result.exception)


def test_a_search_whose_target_did_not_come_up_may_be_made_again(out):
    with pytest.raises(UnavailableError):
        run_search(plan(out), step=System(300, ends={1: UnavailableError("no target")}).step)
    assert written(out)["capacity"]["interval"]["reason"] == "no target"
    assert not made_steps(out)
    ended(plan(out), System(300))
    assert made_steps(out)
