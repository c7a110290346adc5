from __future__ import annotations

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
