"""Every scenario that ships can be run against the reference profile, and says of itself what is true."""

from collections import Counter
from pathlib import Path

import pytest

from harness.cli.suite import Options, plan_suite
from harness.cli.tags import tagged
from harness.core.catalogue import DRAFT, SCHEDULED
from harness.core.load_rates import LOAD
from harness.judge.expressions import RECOVERY, parse_expectations
from harness.load.members import make_plan
from harness.load.plan import PlanRegion
from harness.load.population import make_population, resolved
from harness.load.schedule import arrivals
from harness.record.run_directory import RunDirectory
from harness.report.catalogue import markdown
from harness.run.scenario_file import load_scenario, scenario_paths
from reference_server.flags import parse_flag
from reference_server.settings import DEFECTS

ROOT = Path(__file__).parents[2]
TAGS = {"ci", "nightly", "gameday", "demo", "draft", "selftest"}
CI_BUDGET_S = 15 * 60
REGIONS = {name: PlanRegion(api="http://127.0.0.1:1", stream="http://127.0.0.1:1") for name in ("us-east", "ap-tokyo")}
each_scenario = pytest.mark.parametrize("name", scenario_paths())


@each_scenario
@pytest.mark.parametrize("scale", [1.0, 0.5, 3.0])
def test_it_can_be_run_and_proven_at_every_size(name, scale, tmp_path):
    runs = plan_suite([name], tmp_path, Options(scale=scale), prove=True)
    assert len(runs) >= 2


@each_scenario
def test_its_name_is_that_of_its_file_and_its_tags_are_known(name):
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.tags
    assert set(scenario.tags) <= TAGS


@each_scenario
def test_what_makes_it_fail_exists_and_is_seen_by_a_check_it_makes(name):
    scenario = load_scenario(name)
    assert scenario.catalogue is not None
    expected = parse_expectations(scenario.expect)
    checks = {*expected.invariants, *(slo.metric for slo in expected.slos)}
    checks |= {RECOVERY} if expected.recovery_s is not None else set()
    for failing in scenario.catalogue.fails_with:
        assert failing.check in checks
        if failing.flag:
            parse_flag(failing.flag)
        else:
            assert failing.defect in DEFECTS


@each_scenario
def test_what_it_asks_for_arrives(name, tmp_path):
    """Population, plan and schedule are made as a run makes them."""
    asked = load_scenario(name)
    population = make_population(asked.population, asked.seed)
    plan = make_plan(resolved(asked, population), population, REGIONS, RunDirectory(tmp_path))
    found = Counter(arrival.kind.value for arrival in arrivals(plan))
    rates = {key: getattr(asked.load, field) for key, (field, _) in LOAD.items() if key != "signup_curve"}
    kinds = {
        "celebrity_posts": "celebrity",
        "celebrity_signups": "signup",
        "replies": "reply",
        "moderations": "moderate",
    }
    missing = [key for key, rate in rates.items() if rate and not found[kinds.get(key, key.removesuffix("s"))]]
    assert missing == []
    assert not asked.load.signup_curve or found["signup"] == asked.population.users
    assert len(plan.listeners) == asked.population.listeners


@each_scenario
def test_its_flags_exist(name):
    for setting in load_scenario(name).flags:
        parse_flag(setting)


@each_scenario
def test_the_time_it_says_is_longer_than_its_phases(name):
    scenario = load_scenario(name)
    assert scenario.catalogue is not None
    if scenario.catalogue.takes_s is not None:
        assert scenario.catalogue.takes_s > scenario.warmup_s + scenario.duration_s


@pytest.mark.parametrize("tag", SCHEDULED)
def test_what_runs_unattended_is_no_draft(tag):
    assert tagged((tag,))
    assert all(DRAFT not in scenario.tags for scenario in tagged((tag,)))


def test_what_ci_runs_fits_its_budget():
    def time_s(scenario):
        """Half a minute for start, final reads and judgement where nobody has measured."""
        told = scenario.catalogue
        return told.takes_s if told and told.takes_s else scenario.warmup_s + scenario.duration_s + 30

    assert sum(map(time_s, tagged(("ci",)))) <= CI_BUDGET_S


def test_the_catalogue_page_is_what_the_command_prints():
    page = (ROOT / "docs" / "catalogue.md").read_text(encoding="utf-8")
    assert page == markdown(tagged()), "feedstorm scenarios --markdown > docs/catalogue.md"


def test_every_tag_is_explained():
    page = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    assert [tag for tag in sorted(TAGS) if f"| `{tag}` |" not in page] == []
