from __future__ import annotations

import msgspec

from harness.core.load_rates import Load
from harness.core.verdict import Outcome
from harness.judge.trial import Checker, Finding, run_checker


def result(made, finding=None, **checker):
    def check(trial):
        if finding is None:
            raise RuntimeError("boom")
        return finding

    with made({1: [7]}).trial() as trial:
        return run_checker("name", Checker(check, **checker), trial)


def test_a_crash_is_inconclusive_with_the_error(made):
    found = result(made)
    assert found.verdict is Outcome.INCONCLUSIVE
    assert "the checker crashed: RuntimeError: boom" in found.reason


def test_zero_observations_is_never_a_pass(made):
    assert result(made, Finding(observations=0)).verdict is Outcome.INCONCLUSIVE


def test_violations_fail_even_when_something_is_unproven(made):
    assert result(made, Finding(observations=1, violations=1, unproven="x")).verdict is Outcome.FAIL
    assert result(made, Finding(observations=1, unproven="x")).verdict is Outcome.INCONCLUSIVE


def test_evidence_is_limited_and_the_total_is_the_value(made):
    found = result(made, Finding(observations=100, violations=50, evidence=[str(k) for k in range(50)]))
    assert len(found.evidence) == 20
    assert found.value == 50


def test_a_load_that_gives_nothing_to_observe_is_skipped_by_name(made):
    h = made({1: [7]})
    h.scenario = msgspec.structs.replace(h.scenario, load=Load(posts_per_s=1))
    found = h.check("causal")
    assert found.skipped
    assert found.reason == "skipped: the load of the scenario has no replies"
    assert h.check("eligibility").reason.endswith("has no edges or deletes or hides or moderations")
    assert not h.check("author_order").skipped


def test_who_names_it_wants_it(made):
    h = made({1: [7]}, expect={"invariants": ("causal", "order")})
    h.scenario = msgspec.structs.replace(h.scenario, load=Load(posts_per_s=1))
    found = h.check("causal")
    assert (found.verdict, found.skipped) == (Outcome.INCONCLUSIVE, False)


def test_a_pass_tells_its_power(made):
    found = result(made, Finding(observations=300_000))
    assert (
        found.reason == "no violation in 300,000 observations (at 95 % confidence fewer than 0.0010 % would show one)"
    )
