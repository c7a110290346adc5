from collections import Counter

import msgspec
import pytest
from broken_feeds import CAUGHT_BY, CAUGHT_IN_TWO_REGIONS_BY, Regional
from memory_feed import Server, serving
from memory_state import Feed

from harness.contract.conformance import REGISTRY, Rule, conform
from harness.contract.profile import RegionUrls, Slo
from harness.core.errors import UsageError
from harness.core.verdict import Outcome
from harness.record.run_directory import RunDirectory
from harness.run.target import target_up

USERS = 400
LACKING = {"like": "like", "import-finishes": "import"}
SOON = Slo(visibility_s=0.4, cross_region_s=0.4)


def told(checks):
    return {c.name: c.reason for c in checks if c.verdict is not Outcome.PASS}


@pytest.mark.slow
async def test_an_independent_implementation_conforms_and_what_it_lacks_is_named(at):
    async with serving(Feed(USERS)) as url:
        checks = await conform(at(url), users=USERS)
    assert told(checks) == {}
    assert [c.name for c in checks] == list(REGISTRY)
    skipped = {c.name: c.reason for c in checks if c.skipped}
    expected = LACKING | {name: "regions" for name in REGISTRY if name.startswith("region-")}
    assert skipped == {name: f"target has no {what}" for name, what in expected.items()}
    assert all(c.observations > 0 for c in checks if not c.skipped)
    assert len(checks) - len(skipped) >= 25


@pytest.mark.parametrize(("broken", "name"), CAUGHT_BY.items(), ids=lambda v: getattr(v, "__name__", v))
async def test_a_broken_rule_is_caught_by_its_check(at, broken, name):
    feed = broken(USERS) if issubclass(broken, Feed) else Feed(USERS)
    server = broken if issubclass(broken, Server) else Server
    async with serving(feed, server) as url:
        profile = msgspec.structs.replace(at(url), slo=SOON)
        checks = await conform(profile, users=USERS, names=[name, "metrics"])
    verdicts = {c.name: c.verdict for c in checks}
    assert verdicts == {name: Outcome.FAIL, "metrics": Outcome.PASS}, checks


async def judged_in_two_regions(at, feed, names):
    async with serving(feed) as here, serving(feed.elsewhere()) as there:
        regions = {"here": RegionUrls(api=here, stream=here), "there": RegionUrls(api=there, stream=there)}
        capabilities = msgspec.structs.replace(at(here).capabilities, regions=True)
        profile = msgspec.structs.replace(at(here), regions=regions, capabilities=capabilities, slo=SOON)
        return {c.name: c.verdict for c in await conform(profile, users=USERS, names=names)}


async def test_what_takes_effect_in_both_regions_conforms(at):
    names = list(CAUGHT_IN_TWO_REGIONS_BY.values())
    assert await judged_in_two_regions(at, Regional(USERS), names) == dict.fromkeys(names, Outcome.PASS)


@pytest.mark.parametrize(("broken", "name"), CAUGHT_IN_TWO_REGIONS_BY.items(), ids=lambda v: getattr(v, "__name__", v))
async def test_what_stays_in_its_region_is_caught(at, broken, name):
    verdicts = await judged_in_two_regions(at, broken(USERS), [name, "metrics"])
    assert verdicts == {name: Outcome.FAIL, "metrics": Outcome.PASS}


async def test_a_target_that_does_not_answer_shows_nothing(at):
    async with serving(Feed(USERS)) as url:
        pass
    names = ["follow-visible", "cursor-walk", "body-malformed", "health"]
    checks = await conform(at(url), users=USERS, names=names)
    assert Counter(c.verdict for c in checks) == {Outcome.INCONCLUSIVE: len(names)}


async def test_a_check_that_crashes_or_sees_nothing_is_inconclusive(at, monkeypatch):
    async def crashes(trial):
        raise KeyError("nothing there")

    async def blind(trial):
        pass

    monkeypatch.setitem(REGISTRY, "crashes", Rule("crashes", "It crashes.", (), crashes))
    monkeypatch.setitem(REGISTRY, "blind", Rule("blind", "It looks away.", (), blind))
    async with serving(Feed(USERS)) as url:
        first, second = await conform(at(url), users=USERS, names=["crashes", "blind"])
    assert first.verdict is Outcome.INCONCLUSIVE
    assert "KeyError: 'nothing there'" in first.reason
    assert second.verdict is Outcome.INCONCLUSIVE


async def test_too_few_identities_are_told(at):
    async with serving(Feed(1)) as url:
        (checked,) = await conform(at(url), users=1, names=["follow-visible"])
    assert checked.verdict is Outcome.INCONCLUSIVE
    assert "too few identities" in checked.reason


async def test_an_unknown_check_is_refused(at):
    with pytest.raises(UsageError, match="did you mean 'cursor-walk'"):
        await conform(at("http://127.0.0.1:1"), names=["cursor-wlak"])


def test_every_check_says_its_property_in_one_sentence():
    for rule in REGISTRY.values():
        assert rule.property.endswith("."), rule.name
        assert 20 < len(rule.property) < 140, rule.name


@pytest.mark.slow
async def test_the_profile_starts_it_and_it_ends_with_its_parents_pipe(memory_profile, tmp_path):
    run = RunDirectory(tmp_path).create()
    async with target_up(memory_profile, run, users=50) as live:
        checks = await conform(live, users=50, names=["follow-visible", "health"])
    assert told(checks) == {}
