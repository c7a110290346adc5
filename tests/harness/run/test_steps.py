"""What a step of a search is made of, and when a target serves several."""

from dataclasses import replace

import msgspec
import pytest

from harness.core.rate_shapes import Ramp
from harness.core.scenario import FaultSpec, Phase, Scenario, Stop
from harness.run.request import read_request
from harness.run.steps import may_keep, step_scenario

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
