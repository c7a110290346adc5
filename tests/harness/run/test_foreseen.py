"""Which thresholds are told to be undecidable before a run: those that need more samples than are due."""

import pytest

from harness.core.load_rates import Load, Trace
from harness.core.op import OP_METRICS
from harness.core.random_plan import DrawnKind, Hold, RandomPlan
from harness.core.rate_shapes import Spike
from harness.core.scenario import FaultSpec, Phase, Scenario
from harness.judge.expressions import parse_threshold
from harness.run.foreseen import ARRIVING, undecidable
from harness.run.request import read_request, regions_of
from harness.run.scenario_file import scenario_paths

KILL = FaultSpec(kind="kill", handle="us-east.api", hold_s=1)
PHASES = (Phase(name="calm", duration_s=10), Phase(name="cut", duration_s=20, faults=(KILL,)))


def told(expect, load, **more):
    expect = {selector: (expression,) for selector, expression in expect.items()}
    scenario = Scenario(name="x", about="y", phases=PHASES, expect=expect, load=load, **more)
    return undecidable(scenario, PHASES, regions=2)


def test_a_percentile_of_too_few_is_told_once_with_its_phases():
    assert told({"feed_read": "p(99) <= 200ms"}, Load(reads_per_s=4.95)) == [
        "feed_read p(99) <= 200ms needs 100 samples, about 49 are due in calm, 99 in cut: too few for it to pass "
        "there; longer phases or more load give more"
    ]


@pytest.mark.parametrize(
    ("selector", "expression", "load", "phases"),
    [
        ("feed_read", "p(99) <= 200ms", Load(reads_per_s=10), ""),  # just enough
        ("feed_read", "p(99) <= 200ms", Load(reads_per_s=9), "about 90 are due in calm:"),
        ("feed_read", "p(99) <= 200ms", Load(reads_per_s=9, probes_per_s=1), ""),  # which read as well
        ("feed_read{phase:cut}", "p(99) <= 200ms", Load(reads_per_s=9), ""),
        ("feed_read{phase:fault}", "p(99) <= 200ms", Load(reads_per_s=4), "about 80 are due in cut:"),
        ("feed_read{region:us-east}", "p(99) <= 200ms", Load(reads_per_s=12), "about 60 are due in calm:"),
        ("feed_read", "failures <= 1%", Load(reads_per_s=20), "about 200 are due in calm:"),
        ("feed_read", "p(99) <= 1s", Load(reads_per_s=Spike(base_per_s=1, peak_per_s=50, at_s=10, for_s=9)), "10 are"),
        ("post_accept{author:celebrity}", "p(95) <= 1s", Load(posts_per_s=50, celebrity_posts_per_s=1), "10 are"),
        ("post_accept{author:ordinary}", "p(95) <= 1s", Load(posts_per_s=1, celebrity_posts_per_s=50), "10 are"),
        ("feed_read", "max <= 1s", Load(reads_per_s=0.1), ""),  # needs one
        ("feed_read", "failures == 0", Load(reads_per_s=0.1), ""),
        ("post_to_event", "p(99) <= 1s", Load(posts_per_s=0.1), ""),  # each at so many listeners as there are
        ("signup", "p(99) <= 1s", Load(signup_curve=True, signups_per_s=1), ""),
        ("feed_read", "p(99) <= 1s", Load(reads_per_s=1, trace=Trace(path="x", kinds=("read",))), ""),
        ("feed_read", "p(99) <= 1s", Load(reads_per_s=1, trace=Trace(path="x", kinds=("post",))), "10 are"),
    ],
)
def test_what_is_due_is_counted_by_phase_region_and_author(selector, expression, load, phases):
    found = " ".join(told({selector: expression}, load))
    assert phases in found
    assert bool(found) == bool(phases)


def test_where_random_faults_will_strike_is_not_foreseen():
    drawn = RandomPlan(kinds=(DrawnKind(kind="kill"),), handles=("us-east.api",), rate_per_s=0.1, hold=Hold(1, 2))
    assert told({"feed_read{phase:fault}": "p(99) <= 1s"}, Load(reads_per_s=1), chaos=drawn) == []
    assert len(told({"feed_read{phase:cut}": "p(99) <= 1s"}, Load(reads_per_s=1), chaos=drawn)) == 1


@pytest.mark.parametrize("name", scenario_paths())
def test_no_scenario_at_its_own_size_lacks_samples(name, tmp_path):
    request = read_request(name, None, (), None, tmp_path)
    assert undecidable(request.scenario, request.phases, len(regions_of(request.profile))) == []


def test_a_smaller_one_may_lack_them(tmp_path):
    small = read_request("cache-kill", None, (), None, tmp_path, scale=0.3)
    [sentence] = undecidable(small.scenario, small.phases, 2)
    assert sentence.startswith("post_accept p(99) <= 500ms needs 100 samples, about 90 are due in baseline:")


@pytest.mark.parametrize(
    ("expression", "needed"), [("p(99) <= 1s", 100), ("p(50) <= 1s", 1), ("failures < 1%", 300), ("max <= 1s", 1)]
)
def test_the_judge_needs_as_many(expression, needed):
    assert parse_threshold(expression).needed_samples == needed


def test_every_metric_here_is_one_of_ops():
    assert set(ARRIVING) <= set(OP_METRICS.values())
