"""A trace from the scenario file to the plan: where it is looked for, what is told before a run, what the run keeps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.contract.profile import Capabilities, Profile
from harness.core.errors import UsageError
from harness.core.scenario import Scenario
from harness.load.members import make_plan
from harness.load.plan import LoadPlan, PlanRegion
from harness.load.population import make_population
from harness.load.schedule import arrivals
from harness.record.run_directory import RunDirectory
from harness.run.load_asked import load_asked
from harness.run.request import read_request
from harness.run.scenario_file import load_scenario
from harness.run.stages import keep_trace

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "evening.csv"
SCENARIO = """
name = "evening"
about = "An evening, played again."
[population]
users = 60
mean_follows = 5
panel = 6
[load]
trace = {}
[[phase]]
name = "all"
duration = "3s"
"""
REGIONS = {name: PlanRegion(api="http://127.0.0.1:1", stream="http://127.0.0.1:1") for name in ("us-east", "ap-tokyo")}


@pytest.fixture
def scenario(tmp_path: Path) -> Any:
    """A scenario file with that value of `load.trace`, in a folder with the example."""
    folder = tmp_path / "scenarios"
    folder.mkdir()
    shutil.copy(EXAMPLE, folder / "evening.csv")

    def make(trace: str = '"evening.csv"') -> str:
        path = folder / "evening.toml"
        path.write_text(SCENARIO.format(trace))
        return str(path)

    return make


def problems(*arguments: Any, **options: Any) -> list[str]:
    with pytest.raises(UsageError) as error:
        load_scenario(*arguments, **options)
    return error.value.problems


@pytest.mark.parametrize("trace", ['"evening.csv"', '{ path = "evening.csv", speed = 2 }'])
def test_a_trace_is_looked_for_beside_its_scenario(scenario: Any, tmp_path: Path, trace: str) -> None:
    found = load_scenario(scenario(trace)).load.trace
    assert found is not None
    assert found.path == str(tmp_path / "scenarios" / "evening.csv")
    assert (found.kinds, found.regions) == (("post", "read"), ("ap-tokyo", "us-east"))
    assert found.speed == (2 if "speed" in trace else 1)


def test_a_trace_on_the_command_line_is_looked_for_where_one_is(
    scenario: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("time_s,kind\n1,read\n")
    found = load_scenario(scenario(), ["load.trace=mine.csv"]).load.trace
    assert found is not None
    assert found.kinds == ("read",)


def test_so_is_an_edge_list(scenario: Any, tmp_path: Path) -> None:
    path = Path(scenario())
    path.write_text(path.read_text().replace("[population]", '[population]\ngraph = "edges:graphs/follows.txt"'))
    assert load_scenario(str(path)).population.graph == f"edges:{tmp_path / 'scenarios' / 'graphs' / 'follows.txt'}"
    assert load_scenario(str(path), ["population.graph=edges:here.txt"]).population.graph == "edges:here.txt"


@pytest.mark.parametrize(
    ("trace", "problem"),
    [
        ('"none.csv"', "none.csv: cannot be read"),
        ("3", "load.trace.path: must be a non-empty text, got 3"),
        ("{ speed = 2 }", "load.trace.path: is required"),
        ('{ path = "evening.csv", sped = 2 }', "load.trace.sped: unknown key (did you mean 'speed'?)"),
        ('{ path = "evening.csv", speed = 0 }', "load.trace.speed: must be a number from 0.001 to 1000, got 0"),
    ],
)
def test_what_is_wrong_is_told_before_a_run(scenario: Any, trace: str, problem: str) -> None:
    [told] = problems(scenario(trace))
    assert problem in told


def test_a_misspelt_key_finds_the_trace(scenario: Any) -> None:
    assert "load.trce: unknown key (did you mean 'trace'?)" in problems(scenario(), ["load.trce=x"])


def test_what_the_population_cannot_do_is_told(scenario: Any, tmp_path: Path) -> None:
    (tmp_path / "scenarios" / "other.csv").write_text("time_s,kind\n0,celebrity\n0,like\n0,reply\n")
    assert problems(scenario('"other.csv"'), ["population.panel=0"]) == [
        "load.trace: reply needs population.panel",
        "load.trace: like needs population.panel",
        "load.trace: celebrity needs population.celebrities",
    ]


def test_regions_that_the_target_has_not_are_told(scenario: Any, tmp_path: Path) -> None:
    read_request(scenario(), None, (), None, tmp_path / "run")
    (tmp_path / "scenarios" / "evening.csv").write_text("time_s,kind,region\n0,read,us-eest\n")
    with pytest.raises(UsageError, match=r"load\.trace: unknown region 'us-eest' \(did you mean 'us-east'\?\)"):
        read_request(scenario(), None, (), None, tmp_path / "run")


def planned(scenario: Scenario, run: RunDirectory) -> LoadPlan:
    return make_plan(scenario, make_population(scenario.population, scenario.seed), REGIONS, run)


def test_a_run_keeps_its_trace_and_plays_that(scenario: Any, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run").create()
    kept = keep_trace(run, load_scenario(scenario()))
    Path(scenario()).with_name("evening.csv").unlink()
    plan = planned(kept, run)
    assert (run.path / "trace.csv").read_text() == EXAMPLE.read_text()
    assert plan.posters
    assert plan.readers, "a trace with reads and posts asks for those who make them"
    assert not plan.celebrities
    due = arrivals(plan)
    assert len(due) == 11
    assert due == arrivals(plan)
    again = RunDirectory(tmp_path / "again").create()
    shutil.copy(EXAMPLE, tmp_path / "scenarios")
    assert arrivals(planned(keep_trace(again, load_scenario(scenario())), again)) == due


def test_a_scenario_without_a_trace_keeps_none(scenario: Any, tmp_path: Path) -> None:
    path = Path(scenario())
    path.write_text(path.read_text().replace('trace = "evening.csv"', ""))
    run = RunDirectory(tmp_path / "run").create()
    plain = load_scenario(str(path))
    assert keep_trace(run, plain) is plain
    assert not list(run.path.glob("trace*"))


def test_what_a_target_cannot_take_and_what_comes_too_late_is_left_out_by_name(scenario: Any, tmp_path: Path) -> None:
    (tmp_path / "scenarios" / "other.csv").write_text("time_s,kind\n0,read\n0,like\n99,read\n")
    run = RunDirectory(tmp_path / "run").create()
    plan = planned(keep_trace(run, load_scenario(scenario('"other.csv"'))), run)
    profile = Profile(name="ours", capabilities=Capabilities(like=False))
    asked = load_asked(plan, profile)
    assert asked.left_out == (
        "load.likes: target ours lacks like",
        "1 of the 3 arrivals of load.trace: they come after the end of the run",
    )
    assert [a.kind for a in arrivals(asked)] == ["read"]
    all_of_it = load_asked(plan, msgspec.structs.replace(profile, capabilities=Capabilities()))
    assert [a.kind for a in arrivals(all_of_it)] == ["like", "read"]
