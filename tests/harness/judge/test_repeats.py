"""Several runs: how often each check passed, and the worst of all."""

from __future__ import annotations

import pytest

from harness.core.verdict import Check, CheckKind, Outcome, Verdict
from harness.judge.repeats import check_rates, repeats_of

PASS, FAIL, OPEN = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def verdict(outcome: Outcome, **checks: Outcome | None) -> Verdict:
    """None: skipped."""
    made = [
        Check(name=name, kind=CheckKind.INVARIANT, verdict=found or OPEN, skipped=found is None)
        for name, found in checks.items()
    ]
    return Verdict(verdict=outcome, scenario="made", seed=1, checks=made)


RUNS = [
    verdict(PASS, order=PASS, durability=PASS, witness=None, convergence=OPEN),
    verdict(FAIL, order=FAIL, durability=PASS, witness=None, convergence=PASS),
    verdict(FAIL, order=FAIL, durability=PASS, witness=None),
]


def test_how_often_each_check_passed_the_worst_first() -> None:
    found = {rate.name: (rate.passed, rate.failed, rate.inconclusive, rate.skipped) for rate in check_rates(RUNS)}
    assert list(found) == ["order", "convergence", "durability", "witness"]
    assert found == {
        "order": (1, 2, 0, 0), "convergence": (1, 0, 1, 0), "durability": (3, 0, 0, 0), "witness": (0, 0, 0, 3),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("outcomes", "wanted", "also", "verdict_of_all"),
    [
        ([PASS, PASS], 2, [], PASS),
        ([PASS, FAIL], 2, [], FAIL),
        ([PASS, OPEN], 2, [], OPEN),
        ([PASS, PASS], 3, [], OPEN),
        ([PASS, PASS], 2, [FAIL], FAIL),
        ([PASS, PASS], 2, [OPEN], OPEN),
    ],
)
def test_the_verdict_is_the_worst_and_runs_that_were_not_made_prove_nothing(outcomes, wanted, also, verdict_of_all):
    made = repeats_of("made", [(f"r{k}", verdict(o)) for k, o in enumerate(outcomes)], wanted, "", also)
    assert made.verdict is verdict_of_all


def test_each_run_names_its_troubles_failed_ones_first() -> None:
    made = repeats_of("made", [("a", verdict(FAIL, x=OPEN, y=FAIL, z=PASS, w=None))], 1)
    assert (made.runs[0].run, made.runs[0].troubles) == ("a", ["y", "x"])
