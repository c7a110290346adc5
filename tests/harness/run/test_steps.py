"""What a step of a search is made of, and when a target serves several."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import pytest

from harness.core.rate_shapes import Ramp
from harness.core.scenario import FaultSpec, Phase, Scenario, Stop
from harness.core.verdict import Outcome, Verdict
from harness.record.parquet import to_parquet
from harness.record.run_directory import RunDirectory
from harness.run.load_processes import StreamsNotOpened
from harness.run.request import read_request
from harness.run.steps import may_keep, step_scenario, target_steps

MEMORY_FEED = Path(__file__).parents[2] / "conformance" / "memory_feed.toml"

KILL = FaultSpec(kind="kill", handle="us-east.api", hold_s=1)


def scenario(expect, phases=(("down", (KILL,)), ("calm", ()))):
    played = tuple(Phase(name=name, duration_s=60, faults=faults) for name, faults in phases)
    return Scenario(
        name="x", about="y", phases=played, expect=expect, stop=Stop(expressions={"feed_read": ("max <= 1s",)})
    )


def test_a_step_is_one_phase_in_which_nothing_breaks():
    made, left_out = step_scenario(scenario({"feed_read": ("p(95) <= 500ms",)}), 20)
    assert made.phases == (Phase(name="calm", duration_s=20),)
    assert (made.stop, made.chaos, left_out) == (Stop(), None, [])
    only_faults, _ = step_scenario(scenario({}, [("down", (KILL,))]), 20)
    assert only_faults.phases[0].name == "steady"


def test_what_cannot_be_asked_of_a_step_is_left_out_and_told():
    expect = {
        "feed_read": ("p(95) <= 500ms", "count >= 4500", "rate >= 10/s"),
        "feed_read{phase:calm}": ("failures == 0",),
        "post_accept{phase:baseline}": ("failures == 0",),
        "post_accept{phase:down}": ("failures <= 5%",),
        "post_accept{phase:recovered}": ("failures == 0",),
        "invariants": ("durability",),
        "recovery": ("<= 10s",),
    }
    made, left_out = step_scenario(scenario(expect), 20)
    assert made.expect == {
        "feed_read": ("p(95) <= 500ms",),
        "feed_read{phase:calm}": ("failures == 0",),
        "post_accept{phase:baseline}": ("failures == 0",),
        "invariants": ("durability",),
    }
    assert left_out == [
        "feed_read count >= 4500",
        "feed_read rate >= 10/s",
        "post_accept{phase:down} failures <= 5%",
        "post_accept{phase:recovered} failures == 0",
        "recovery <= 10s",
    ]


def test_what_is_malformed_is_left_to_be_told():
    wrong = {"feed_raed": ("p(95) <= 500ms",), "feed_read": ("p95 < 1",)}
    assert step_scenario(scenario(wrong), 20)[0].expect == wrong


@pytest.mark.parametrize(
    ("assignments", "kept"),
    [
        ((), True),
        (("load.edges=1/s",), False),
        (("population.joined=none", "load.signups=5/s", "load.posts=0/s"), False),
        (("population.late_celebrities=[5000]", "load.celebrity_signups=0.1/s"), False),
    ],
)
def test_a_target_serves_several_steps_unless_they_change_whom_the_next_takes_for_granted(tmp_path, assignments, kept):
    request = read_request("celebrity-cache-kill", None, assignments, None, tmp_path / "run")
    assert may_keep(request) is kept
    assert not may_keep(replace(request, profile=msgspec.structs.replace(request.profile, start=None)))


def test_a_target_that_is_up_has_the_population(tmp_path):
    request = read_request("celebrity-cache-kill", None, (), None, tmp_path / "run")
    assert request.is_populated  # it takes it at its start
    elsewhere = replace(request, profile=msgspec.structs.replace(request.profile, start=None))
    assert not elsewhere.is_populated
    assert replace(elsewhere, running=request.profile).is_populated
    ramp = msgspec.structs.replace(request.scenario.load, edges_per_s=Ramp(from_per_s=0, to_per_s=1, over_s=1))
    changing = replace(request, scenario=msgspec.structs.replace(request.scenario, load=ramp))
    assert not may_keep(changing)


class Runs:
    """Runs that end with these outcomes; each leaves what a judged one does, and notes the target it got."""

    def __init__(self, *outcomes):
        self.outcomes, self.targets = list(outcomes), []

    async def __call__(self, request, observe):
        assert request.running is not None
        url = request.running.regions["memory"].api
        self.targets.append(url)
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{url}/readyz")).is_success
        run = RunDirectory(request.out).create()
        run.scenario.write_bytes(msgspec.json.encode(request.scenario))
        run.profile.write_bytes(msgspec.json.encode(request.running))
        phase = {"name": "a", "start_ns": 0, "end_ns": 10**10, "kind": "baseline"}
        run.phases.write_bytes(msgspec.json.encode([phase]))
        to_parquet(run)
        return Verdict(verdict=self.outcomes.pop(0), scenario="x", seed=1, checks=[])


def small_request(folder, out):
    """Of a small scenario, at the in-memory feed."""
    mine = folder / "mine.toml"
    mine.write_text(
        'name = "mine"\nabout = "y"\n[population]\nusers = 20\nmean_follows = 3\n'
        '[load]\nposts = "1/s"\n[[phase]]\nname = "a"\nduration = "1s"\n[expect]\ninvariants = []\n'
    )
    return read_request(str(mine), str(MEMORY_FEED), (), None, out)


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "answer"), [("503", "failed"), ("too many open files", "saturated")])
async def test_streams_that_cannot_be_opened_are_an_answer(tmp_path, problem, answer):
    request = small_request(tmp_path, tmp_path / "step")

    async def run(request, observe):
        raise StreamsNotOpened(12, 30, {problem: 99, "connection refused": 1})

    async with target_steps(lambda: nullcontext(lambda progress: None), keep=True, run=run) as steps:
        result = await steps.step(request)
        assert not (request.out / "stack").exists(), "the target is ended: it refuses"
    assert result.answer == answer
    [check] = result.verdict.checks
    assert check.name == f"12 of 30 streams opened: {problem} (99x)"
    assert f"only 12 of 30 streams could be opened: {problem} (99x), connection refused (1x)" in check.reason


@pytest.mark.slow
async def test_a_target_is_kept_until_a_step_does_not_hold(tmp_path):
    request = small_request(tmp_path, tmp_path / "search" / "1")
    assert may_keep(request)
    runs = Runs(Outcome.PASS, Outcome.PASS, Outcome.FAIL, Outcome.PASS)
    async with target_steps(lambda: nullcontext(lambda progress: None), keep=True, run=runs) as steps:
        answers = [(await steps.step(replace(request, out=tmp_path / "search" / str(k)))).answer for k in range(4)]
    assert answers == ["held", "held", "failed", "held"]
    first, second, third, fourth = runs.targets
    assert first == second == third != fourth
    async with httpx.AsyncClient(trust_env=False) as client:
        for url in {first, fourth}:
            with pytest.raises(httpx.TransportError):
                await client.get(f"{url}/readyz")
    assert list((tmp_path / "search").glob("*/stack")) == []
