"""The search, against systems whose capacity is known: it has to bracket it, and to say when it cannot."""

import math
from itertools import pairwise

import numpy as np
import pytest

from harness.core.verdict import Check, CheckKind, Outcome, Verdict
from harness.judge.capacity import (
    MOST_STEPS,
    Answer,
    Goodput,
    Interval,
    Search,
    answer_of,
    least_share,
    mean_goodput,
    steps_of,
)

HELD, FAILED, SATURATED, NOISY, UNDECIDED = Answer


def searched(search, system, most=MOST_STEPS + 1):
    """The interval and the steps, `system` answering factors."""
    steps, path = steps_of(search, ()), []
    while isinstance(factor := steps.next, float):
        assert len(path) < most, path
        path.append(factor)
        steps.add(factor, system(factor))
    return factor, path


def limited(capacity):
    return lambda factor: HELD if factor <= capacity else FAILED


@pytest.mark.parametrize("seed", range(8))
def test_a_system_that_fails_above_its_capacity_is_bracketed_wherever_that_is(seed):
    random = np.random.default_rng(seed)
    for _ in range(50):
        capacity = float(np.exp(random.uniform(math.log(0.05), math.log(300))))
        search = Search(tolerance=float(random.choice([0.01, 0.05, 0.1, 0.3])), repeats=int(random.integers(1, 5)))
        found, path = searched(search, limited(capacity))
        assert found.found
        assert found.held.factor <= capacity < found.failed.factor
        assert found.failed.factor / found.held.factor <= (1 + search.tolerance) * 1.001
        assert found.held.held >= search.repeats
        assert found.failed.failed >= search.repeats
        outwards = abs(math.log2(capacity)) + 2
        assert len(path) <= outwards + math.log2(1 / math.log2(1 + search.tolerance)) + 2 + 2 * search.repeats


@pytest.mark.parametrize("seed", range(8))
def test_a_system_that_fails_at_random_near_its_capacity_is_bracketed_within_that_noise(seed):
    """P(hold) falls from 1 to 0 around the capacity: 1 / (1 + (factor / capacity) ** steepness)."""
    random = np.random.default_rng(100 + seed)
    wrong = 0
    for _ in range(50):
        capacity, steepness = float(np.exp(random.uniform(-2, 4))), float(random.uniform(8, 60))

        def holds(factor, capacity=capacity, steepness=steepness):
            return 1 / (1 + (factor / capacity) ** steepness)

        found, _ = searched(Search(), lambda factor, p=holds: HELD if random.random() < p(factor) else FAILED)
        assert found.found
        assert found.held.failed == 0
        assert found.failed.failed > found.failed.held
        wrong += holds(found.held.factor) < least_share(3, 3) or 1 - holds(found.failed.factor) < least_share(2, 3)
    assert wrong <= 10  # of 50 ends each; the confidence is of one level, and the search looks at several


@pytest.mark.parametrize("seed", range(4))
def test_a_generator_that_is_at_its_end_before_the_target_is_no_capacity(seed):
    random = np.random.default_rng(200 + seed)
    for _ in range(50):
        capacity, generator = (float(np.exp(random.uniform(-2, 4))) for _ in range(2))
        found, _ = searched(
            Search(), lambda f, c=capacity, g=generator: SATURATED if f > g else HELD if f <= c else FAILED
        )
        if generator < capacity:
            assert not found.found
            assert found.reason == "the load could not be made as asked"
            assert found.held.factor <= generator < found.unclear.factor
            assert found.failed is None
        elif found.found:
            assert found.held.factor <= capacity < found.failed.factor <= generator
        else:  # there was no step between the two
            assert found.held.factor <= capacity
            assert found.unclear.factor > generator


def test_one_unlucky_step_does_not_lead_astray():
    unlucky = iter([FAILED])
    found, path = searched(Search(), lambda f: next(unlucky, HELD) if f == 1 else limited(3.0)(f))
    assert found.found
    assert path[0] == 1
    assert path.count(1.0) == 3
    assert found.held.factor <= 3.0 < found.failed.factor


def test_an_end_that_turns_over_when_it_is_repeated_sends_the_search_back():
    answers = {1.0: [HELD, FAILED, FAILED, FAILED], 2.0: [FAILED] * 3}
    seen = {}

    def system(factor):
        seen[factor] = seen.get(factor, 0) + 1
        told = answers.get(factor)
        return told[min(seen[factor], len(told)) - 1] if told else limited(0.9)(factor)

    found, _ = searched(Search(tolerance=1.0), system)
    assert found.found
    assert found.held.factor <= 0.9
    assert found.failed.factor == 1.0
    assert (found.failed.held, found.failed.failed) == (1, 2)


def test_what_holds_most_times_but_not_each_time_lies_inside_the_interval():
    count = 0

    def system(factor):
        nonlocal count
        if 0.9 < factor <= 1.1:
            count += 1
            return FAILED if count % 3 == 0 else HELD
        return limited(1.1)(factor)

    found, _ = searched(Search(tolerance=0.1), system)
    assert found.found
    assert found.held.factor <= 0.9 * 1.1
    assert all(found.held.factor < level.factor < found.failed.factor for level in found.wavering)
    assert found.wavering


def test_both_ends_are_repeated_by_turns():
    _, path = searched(Search(tolerance=0.5, repeats=4), limited(1.3))
    last = path[-6:]
    assert len(set(last)) == 2
    assert all(one != other for one, other in pairwise(last))


def test_what_was_noisy_is_tried_again_and_then_given_up():
    for tries, expected in ((1, [1.0, 2.0, 2.0, 4.0]), (2, [1.0, 2.0, 2.0, 1.414])):
        noisy = iter([NOISY] * tries)
        found, path = searched(Search(), lambda f, noisy=noisy: next(noisy, limited(3)(f)) if f == 2 else limited(3)(f))
        assert path[:4] == expected
    assert (found.found, found.reason) == (False, "the machine is too noisy to tell")
    assert found.held.factor < found.unclear.factor == 2.0


def test_a_check_that_cannot_decide_ends_it_at_once():
    found, path = searched(Search(), lambda factor: UNDECIDED)
    assert (path, found.found, found.reason) == ([1.0, 1.0], False, "a check cannot decide")


def test_the_most_that_a_scenario_permits_is_no_capacity():
    found, path = searched(Search(most=3.3), limited(100))
    assert path == [1.0, 2.0, 3.3]
    assert (found.found, found.held.factor, found.failed) == (False, 3.3, None)
    assert "the most that the scenario permits" in found.reason


def test_a_target_that_holds_nothing_is_told_to():
    found, path = searched(Search(start=8), limited(0))
    assert min(path) == 8 / 32
    assert (found.found, found.held, found.failed.factor) == (False, None, 0.25)
    assert found.reason == "it fails even at 0.25 times what the scenario asks for"


def test_a_search_that_is_cut_short_tells_what_it_knows():
    steps = steps_of(Search(), [(1.0, HELD), (2.0, FAILED)])
    known = steps.interval("the time is over")
    assert isinstance(known, Interval)
    assert (known.found, known.held.factor, known.failed.factor) == (False, 1.0, 2.0)


@pytest.mark.parametrize(
    ("seen", "of", "share"), [(3, 3, 0.3684), (10, 10, 0.7411), (5, 6, 0.4182), (2, 3, 0.1354), (0, 3, 0.0)]
)
def test_the_confidence_is_that_of_clopper_and_pearson(seen, of, share):
    assert least_share(seen, of) == pytest.approx(share, abs=1e-4)


def verdict(*checks):
    made = [
        Check(name=name, kind=kind, verdict=outcome, reason=reason, skipped=reason == "skipped")
        for name, kind, outcome, reason in checks
    ]
    found = {check.verdict for check in made if not check.skipped}
    worst = next(o for o in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS) if o in found)
    return Verdict(verdict=worst, scenario="x", seed=1, checks=made)


SLO, GENERATOR = CheckKind.SLO, CheckKind.GENERATOR
PASS, FAIL, UNSURE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
SOUND = ("generator", GENERATOR, PASS, "")
LATE = ("generator", GENERATOR, UNSURE, "locust-0 dropped 9 arrivals")


@pytest.mark.parametrize(
    ("checks", "answer", "says"),
    [
        ([("reads", SLO, PASS, ""), SOUND], HELD, ""),
        ([("reads", SLO, FAIL, ""), ("posts", SLO, FAIL, ""), SOUND], FAILED, "reads, posts"),
        ([("reads", SLO, FAIL, ""), LATE], SATURATED, "locust-0 dropped 9 arrivals"),
        ([("reads", SLO, PASS, ""), LATE], SATURATED, "locust-0 dropped 9 arrivals"),
        ([("reads", SLO, UNSURE, "the machine was noisy: it"), SOUND], NOISY, "reads: the machine was noisy: it"),
        ([("reads", SLO, UNSURE, "2 observations are too few"), SOUND], UNDECIDED, "reads: 2 observations are too few"),
        ([("likes", SLO, FAIL, "skipped"), ("reads", SLO, PASS, ""), SOUND], HELD, ""),
    ],
)
def test_only_a_check_that_failed_under_a_sound_generator_fails_a_level(checks, answer, says):
    assert answer_of(verdict(*checks)) == (answer, says)


def test_goodput_of_several_steps_is_their_mean():
    one = Goodput(offered_per_s=100, good_per_s=80, refused={"503": 7})
    other = Goodput(offered_per_s=100, good_per_s=60, refused={"503": 3, "429": 1})
    both = mean_goodput([one, other])
    assert (both.good_per_s, both.refused, both.share) == (70, {"503": 10, "429": 1}, 0.7)
    assert mean_goodput([]).share == 0
