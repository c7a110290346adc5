"""What a search for capacity turns, and what it leaves as it is."""

import msgspec
import pytest

from harness.core.errors import UsageError
from harness.core.knobs import KNOBS, LISTENERS, RATES, find_knob
from harness.core.listening import Listening
from harness.core.load_rates import Load, Trace
from harness.core.rate_shapes import Ramp, Spike
from harness.core.scenario import Phase, Population, Scenario
from harness.load.members import choose_listeners
from harness.load.population import make_population

MIXED = Load(posts_per_s=40, reads_per_s=Ramp(from_per_s=10, to_per_s=100, over_s=20), celebrity_posts_per_s=0.5)


def scenario(load=MIXED, **population):
    who = Population(users=1000, panel=50, celebrities=(500,), **population)
    return Scenario(name="x", about="y", phases=(Phase(name="a", duration_s=20),), population=who, load=load)


def test_all_rates_grow_together_and_their_times_and_the_population_stay():
    knob = find_knob(RATES, scenario(listeners=100))
    made = knob.at(2.5)
    assert made.load.posts_per_s == 100
    assert made.load.reads_per_s == Ramp(from_per_s=25, to_per_s=250, over_s=20)
    assert made.load.celebrity_posts_per_s == 1.25
    assert made.load.signups_per_s == 0
    assert made.population == knob.scenario.population
    assert (knob.amount(1), knob.amount(2), knob.unit) == (140.5, 281, "/s")


def test_when_a_celebrity_joins_is_no_amount_of_load():
    joining = Load(posts_per_s=40, celebrity_signups_per_s=0.1)
    made = find_knob(RATES, scenario(joining, late_celebrities=(400,))).at(2)
    assert (made.load.posts_per_s, made.load.celebrity_signups_per_s) == (80, 0.1)
    assert "load.celebrity_signups" not in KNOBS


def test_one_rate_grows_and_the_others_stay():
    spike = Load(posts_per_s=40, reads_per_s=Spike(base_per_s=10, peak_per_s=100, at_s=5, for_s=5))
    knob = find_knob("load.reads", scenario(spike))
    made = knob.at(0.5)
    assert made.load.reads_per_s == Spike(base_per_s=5, peak_per_s=50, at_s=5, for_s=5)
    assert made.load.posts_per_s == 40
    assert knob.amount(0.5) == 50


def test_an_amount_is_what_arrives_within_the_phases():
    later = Load(posts_per_s=Spike(base_per_s=10, peak_per_s=100, at_s=20, for_s=60))
    assert find_knob("load.posts", scenario(later)).amount(3) == 30
    soon = Load(posts_per_s=Spike(base_per_s=10, peak_per_s=100, at_s=19, for_s=60), reads_per_s=40)
    assert find_knob(RATES, scenario(soon)).amount(1) == 140
    never = Load(posts_per_s=Spike(base_per_s=0, peak_per_s=100, at_s=25, for_s=60))
    with pytest.raises(UsageError, match="nothing of it arrives within a step of 20s"):
        find_knob("load.posts", scenario(never))


def test_streams_grow_up_to_one_a_user_who_may_listen():
    knob = find_knob(LISTENERS, scenario(listeners=300))
    assert knob.at(1.337).population.listeners == 401
    assert knob.at(knob.most).population.listeners == 999  # the celebrity never does
    assert (knob.amount(2), knob.unit) == (600, " streams")
    assert knob.at(2).load == MIXED


def test_there_are_as_many_listeners_as_are_told():
    joining = scenario(listeners=100, late_celebrities=(300,), hyper_followers=(50, 60, 70), newcomers=600)
    knob = find_knob(LISTENERS, joining)
    people = make_population(joining.population, 1)
    for factor in (0.001, 1, knob.most, 2 * knob.most):
        wanted = knob.at(factor).population
        there = len(choose_listeners(people, wanted, 1, ("here",)))
        assert there == knob.amount(min(factor, knob.most)) > 0
    assert knob.amount(knob.most) == 1000 - 2 - 600 - 1


def test_the_share_of_listeners_over_http2_stays():
    asked = msgspec.structs.replace(scenario(listeners=300), listeners=Listening(http2=30, slow_ratio=0.9))
    made = find_knob(LISTENERS, asked).at(0.5)
    assert (made.population.listeners, made.listeners.http2, made.listeners.slow_ratio) == (150, 15, 0.9)


@pytest.mark.parametrize(
    ("name", "load", "problem"),
    [
        ("load.raeds", MIXED, r"--find: unknown 'load.raeds' \(did you mean 'load.reads'\?\)"),
        ("load.likes", MIXED, "--find load.likes: scenario x has no such load"),
        (RATES, Load(), "--find rates: scenario x has no such load"),
        (LISTENERS, MIXED, "--find population.listeners: scenario x has no listeners"),
        (RATES, Load(posts_per_s=1, trace=Trace(path="t.csv")), "says by itself what arrives"),
        (RATES, Load(posts_per_s=1, signup_curve=True), "everybody join within a step"),
        ("load.posts", Load(posts_per_s=1, signup_curve=True), "everybody join within a step"),
    ],
)
def test_there_must_be_something_to_turn(name, load, problem):
    with pytest.raises(UsageError, match=problem):
        find_knob(name, scenario(load))


def test_what_the_other_rates_do_not_permit_is_told():
    knob = find_knob("load.deletes", scenario(Load(posts_per_s=10, deletes_per_s=4)))
    assert knob.at(1.2).load.deletes_per_s == pytest.approx(4.8)
    with pytest.raises(UsageError, match=r"must be <= 50% of load.posts .* \(at 2 times load.deletes\)"):
        knob.at(2)


def test_every_rate_is_a_knob():
    assert {"load.posts", "load.reads", "load.celebrity_posts", "load.probes"} <= set(KNOBS)
    assert "load.signup_curve" not in KNOBS
