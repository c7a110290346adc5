"""Chooses who does what: the panel, posters, readers, listeners and celebrities of a run, and makes the load plan.

Seeded and pure. A user acts in one region only: its home region, in turn by user number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.core.listening import Habit, Listening
from harness.core.rate_shapes import peak_per_s
from harness.core.scenario import Population as PopulationSpec
from harness.core.scenario import Scenario
from harness.core.seeds import rng
from harness.load.edge_pairs import choose_pairs
from harness.load.edge_schedule import pairs_needed
from harness.load.plan import EdgePair, LoadPlan, Member, PlanRegion, plan_phases
from harness.load.population import Population
from harness.load.power_law import Ints
from harness.record.run_directory import RunDirectory

POSTER_RATIO = 0.1
MAX_POSTERS = 400
MAX_READERS = 1000
POPULARITY_EXPONENT = 0.5
"""an author is chosen with weight followers^0.5: posters have more followers than average (FACTS section 3)"""


def home_region(user: int, regions: Sequence[str]) -> str:
    """The region in which a user acts."""
    return regions[user % len(regions)]


def make_plan(
    scenario: Scenario,
    population: Population,
    regions: Mapping[str, PlanRegion],
    run: RunDirectory,
    tokens: Path | None = None,
    identity: str = "{number}",
) -> LoadPlan:
    """The load plan of a run. `scenario` is the one `population.resolved` gave."""
    spec, names = scenario.population, tuple(regions)
    hyper = hyper_followers(spec)
    ordinary = np.setdiff1d(_ordinary(population), np.asarray(hyper))
    joined = spec.joined == "all"
    panel = _spread(rng(scenario.seed, "panel"), ordinary, spec.panel - len(hyper), names)
    others = np.setdiff1d(ordinary, panel)
    posters = _posters(population, others, scenario.seed) if joined and scenario.load.asks_for("posts") else others[:0]
    early = population.celebrities[: len(spec.celebrities)] if scenario.load.asks_for("celebrity_posts") else ()
    plan = LoadPlan(
        seed=scenario.seed,
        run=str(run.path),
        users=population.users,
        phases=plan_phases(scenario.warmup_s, scenario.phases),
        regions=dict(regions),
        rates=scenario.load,
        tokens=str(tokens) if tokens else "",
        identity=identity,
        celebrities=_members(early, names),
        late_celebrities=_members(population.celebrities[len(spec.celebrities) :], names),
        newcomers=spec.newcomers,
        panel=_members([*hyper, *panel], names),
        posters=_members(posters, names),
        readers=_members(_readers(scenario, others, names), names),
        listeners=_members(choose_listeners(population, spec, scenario.seed, names), names),
        fetch_ratio=spec.fetch_ratio,
        reconnect_jitter_s=spec.reconnect_jitter_s,
        listening=scenario.listeners,
    )
    habits = choose_habits([user for user, _ in plan.listeners], plan.listening, plan.seed)
    return msgspec.structs.replace(plan, habits=habits, edge_pairs=_edge_pairs(plan, population))


def _edge_pairs(plan: LoadPlan, population: Population) -> tuple[EdgePair, ...]:
    """Whose edges change: as many pairs as the rate of changes takes."""
    panel, posters, celebrities, readers, listeners = (
        [user for user, _ in group]
        for group in (plan.panel, plan.posters, plan.celebrities, plan.readers, plan.listeners)
    )
    others = sorted({*readers, *listeners}.difference(panel))
    wanted = pairs_needed(peak_per_s(plan.rates.edges_per_s))
    return choose_pairs(population, panel, others, sorted({*panel, *posters, *celebrities}), wanted, plan.seed)


def hyper_followers(spec: PopulationSpec) -> range:
    """Who follows very many: those behind the celebrities."""
    first = len(spec.all_celebrities)
    return range(first, first + len(spec.hyper_followers))


def choose_listeners(population: Population, spec: PopulationSpec, seed: int, regions: Sequence[str]) -> Ints:
    """Listeners: the first half of the hyper-followers, and others evenly over regions; celebrity followers among them
    in the same proportion as among all users.
    """
    hyper = hyper_followers(spec)
    listening = hyper[: min(spec.listeners, -(-len(hyper) // 2))]
    others = _listening_others(population, hyper, spec.listeners - len(listening), seed, regions)
    return np.sort(np.concatenate([np.asarray(listening, dtype=np.int64), others]))


def _listening_others(
    population: Population, hyper: Sequence[int], count: int, seed: int, regions: Sequence[str]
) -> Ints:
    absent = [*population.celebrities, *hyper, *population.late]
    users = np.setdiff1d(np.arange(population.users), np.asarray(absent, dtype=np.int64))
    follows = np.zeros(population.users, dtype=bool)
    for celebrity in population.celebrities:
        follows[population.followers_of(celebrity)] = True
    generator = rng(seed, "listeners")
    wanted = min(count, len(users))
    fans, rest = users[follows[users]], users[~follows[users]]
    share = round(wanted * len(fans) / len(users))
    return np.concatenate([_spread(generator, fans, share, regions), _spread(generator, rest, wanted - share, regions)])


def choose_habits(users: Sequence[int], listening: Listening, seed: int) -> dict[int, Habit]:
    """What some listeners do differently from the others; at most one thing each."""
    wanted = {
        Habit.HTTP2: listening.http2,
        Habit.SLOW: round(listening.slow_ratio * len(users)),
        Habit.STALLED: round(listening.stalled_ratio * len(users)),
        Habit.HALF_OPEN: round(listening.half_open_ratio * len(users)),
    }
    shuffled = (users[place] for place in rng(seed, "habits").permutation(len(users)))
    return {user: habit for habit, count in wanted.items() for user in islice(shuffled, count)}


def plan_users(plan: LoadPlan) -> dict[int, str]:
    """Every user of the plan who needs a token before the run, with its region."""
    groups = (plan.celebrities, plan.panel, plan.posters, plan.readers, plan.listeners)
    return {user: region for group in groups for user, region in group}


def _ordinary(population: Population) -> Ints:
    """Users who are no celebrities, neither listed nor by their follower count, and are there from the start."""
    ordinary = population.follower_counts < population.threshold
    ordinary[[*population.celebrities, *population.late]] = False
    found: Ints = np.flatnonzero(ordinary)
    everybody = np.arange(len(population.celebrities), population.users)
    return found if len(found) else np.setdiff1d(everybody, np.asarray(population.late, dtype=np.int64))


def _readers(scenario: Scenario, users: Ints, regions: Sequence[str]) -> Ints:
    wanted = scenario.population.joined == "all" and scenario.load.asks_for("reads")
    return _spread(rng(scenario.seed, "readers"), users, min(MAX_READERS, len(users)) if wanted else 0, regions)


def _posters(population: Population, users: Ints, seed: int) -> Ints:
    """Ordinary authors, popular ones more likely; those without a follower only when nobody else is left."""
    wanted = min(MAX_POSTERS, max(1, round(population.users * POSTER_RATIO)), len(users))
    counts = population.follower_counts[users]
    weights = np.maximum(counts.astype(np.float64), 1e-6) ** POPULARITY_EXPONENT
    chosen = _weighted(rng(seed, "posters"), users, weights, wanted)
    return np.sort(chosen)


def _weighted(generator: np.random.Generator, users: Ints, weights: NDArray[np.float64], count: int) -> Ints:
    """`count` users without replacement, by weight (exponential keys: Efraimidis and Spirakis 2006)."""
    keys = generator.exponential(1.0, len(users)) / weights
    return users[np.argsort(keys, kind="stable")[:count]]


def _spread(generator: np.random.Generator, users: Ints, count: int, regions: Sequence[str]) -> Ints:
    """`count` of `users` at random, as evenly over the regions as their homes allow; sorted."""
    shuffled = generator.permutation(users)
    home = shuffled % len(regions)
    order = np.zeros(len(shuffled), dtype=np.int64)
    for region in range(len(regions)):
        order[home == region] = np.arange(np.count_nonzero(home == region))
    return np.sort(shuffled[np.argsort(order, kind="stable")[:count]])


def _members(users: Sequence[int] | Ints, regions: Sequence[str]) -> tuple[Member, ...]:
    return tuple((int(user), home_region(int(user), regions)) for user in users)
