"""Every arrival of a run, computed before it starts: what is due when, and who shall do it. Pure and seeded.

The same plan gives the same arrivals. What depends on answers (the next page of a walk, polls of an import)
is decided while the run lasts, by `harness.load.sessions` and the users.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from harness.core.clock import NS_PER_S
from harness.core.rate_shapes import EVEN, Rate, is_even
from harness.core.seeds import rng
from harness.load.arrival_kinds import PANEL_POSTS, PANEL_READS, READER_PAGE, Arrival, ArrivalKind
from harness.load.arrivals import Schedule, curve, due_times, one_interval_on
from harness.load.edge_schedule import edge_changes
from harness.load.members import plan_users
from harness.load.plan import EXPIRED, LoadPlan
from harness.load.signup_curve import time_share
from harness.load.touch_schedule import repeats, touches
from harness.load.trace import of_trace

PAGE_SIZES = (5, 50)
WALK_PAGES = (1, 2, 3, 0)
"""pages of a walk; 0: to its end"""
WALK_WEIGHTS = (0.4, 0.25, 0.25, 0.1)
FULL_WALK_PAGE = 50
JOINING_NS = 2 * NS_PER_S
"""a celebrity who joins late posts this long after his sign-up was due, or later"""
_WORDS = (
    "first light over the harbour",
    "nothing beats fresh bread",
    "who else is watching the game",
    "trains are late again",
    "new song on repeat",
    "long run done, legs gone",
    "the cat has opinions",
    "coffee number three",
)


def arrivals(plan: LoadPlan) -> list[Arrival]:
    """All arrivals of the plan in order of time: those of its rates, and those of its trace."""
    by_rate = (reads(plan), posts(plan), celebrity_posts(plan), panel_ops(plan))
    joining = signups(plan)
    joining += celebrity_signups(plan, len(joining))
    by_trace = of_trace(plan, Counter(arrival.kind for arrival in chain(*by_rate)))
    written = sorted((a for a in (*by_rate[1], *by_trace) if a.kind is ArrivalKind.POST), key=_in_time)
    touched = touches(plan, written)
    again = repeats(plan, written, {touch.target for touch in touched})
    return sorted(chain(*by_rate, by_trace, joining, edge_changes(plan), touched, again), key=_in_time)


def _in_time(arrival: Arrival) -> tuple[int, ArrivalKind, int]:
    return arrival.due_ns, arrival.kind, arrival.number


def reads(plan: LoadPlan) -> list[Arrival]:
    """Feed reads from the start of the warm-up: 80 % by panel sessions, the others by readers."""
    generator = rng(plan.seed, "load", "reads")
    due = due_times(generator, plan.rates.reads_per_s, plan.start_ns, plan.end_ns)
    panel = _share(generator, len(due), PANEL_READS, bool(plan.panel), bool(plan.readers))
    actors = generator.integers(0, 1 << 31, len(due))
    limits = generator.choice(PAGE_SIZES, len(due))
    pages = generator.choice(WALK_PAGES, len(due), p=WALK_WEIGHTS)
    limits[pages == 0] = FULL_WALK_PAGE
    return [
        Arrival(
            due_ns=int(due[i]),
            kind=ArrivalKind.READ,
            number=i,
            actor=int(actors[i]),
            panel=bool(panel[i]),
            limit=int(limits[i]) if panel[i] else READER_PAGE,
            pages=int(pages[i]) if panel[i] else 1,
        )
        for i in range(len(due))
    ]


def posts(plan: LoadPlan) -> list[Arrival]:
    """Posts of ordinary authors from the start of the warm-up: 25 % by the panel, others by posters (or newcomers)."""
    generator = rng(plan.seed, "load", "posts")
    due = due_times(generator, plan.rates.posts_per_s, plan.start_ns, plan.end_ns)
    panel = _share(generator, len(due), PANEL_POSTS, bool(plan.panel), bool(plan.posters))
    actors = generator.integers(0, 1 << 31, len(due))
    return [
        Arrival(due_ns=int(due[i]), kind=ArrivalKind.POST, number=i, actor=int(actors[i]), panel=bool(panel[i]))
        for i in range(len(due))
    ]


def celebrity_posts(plan: LoadPlan) -> list[Arrival]:
    """Posts of the celebrities in turn, at exact intervals if not said otherwise; the first one interval on.

    Those who join late take their turns once they have had time to; while nobody has joined, nobody posts.
    """
    rate = plan.rates.celebrity_posts_per_s if plan.all_celebrities else 0.0
    start_ns = plan.start_ns
    if is_even(rate, EVEN):
        start_ns = one_interval_on(rate, start_ns, plan.end_ns)
    due = due_times(rng(plan.seed, "load", "celebrity"), rate, start_ns, plan.end_ns, EVEN)
    present = len(plan.celebrities) + np.searchsorted(_celebrities_join(plan) + JOINING_NS, due, side="right")
    taken = np.flatnonzero(present)
    return [
        Arrival(due_ns=int(due[at]), kind=ArrivalKind.CELEBRITY, number=i, actor=i % int(present[at]))
        for i, at in enumerate(taken)
    ]


def panel_ops(plan: LoadPlan) -> list[Arrival]:
    """Replies, likes and probes of panel sessions, from t0: by then pages have been seen."""
    rates = plan.rates
    wanted: dict[ArrivalKind, Rate] = {
        ArrivalKind.REPLY: rates.replies_per_s,
        ArrivalKind.LIKE: rates.likes_per_s,
        ArrivalKind.PROBE: rates.probes_per_s if plan.probes else 0.0,
    }
    return [arrival for kind, rate in wanted.items() for arrival in _by_the_panel(plan, kind, rate)]


def _by_the_panel(plan: LoadPlan, kind: ArrivalKind, rate: Rate) -> list[Arrival]:
    generator = rng(plan.seed, "load", str(kind))
    due = due_times(generator, rate if plan.panel else 0.0, 0, plan.end_ns)
    actors = generator.integers(0, 1 << 31, len(due))
    return [
        Arrival(
            due_ns=int(due[i]),
            kind=kind,
            number=i,
            actor=int(actors[i]),
            panel=True,
            variant=_variant(plan, i, int(due[i])) if kind is ArrivalKind.PROBE else "",
        )
        for i in range(len(due))
    ]


def _variant(plan: LoadPlan, number: int, due_ns: int) -> str:
    """The variants in turn; no cursor is expired before the oldest ones are."""
    expires = due_ns < plan.expired_after_ns
    variants = [variant for variant in plan.probes if variant != EXPIRED or not expires]
    return variants[number % len(variants)]


def signups(plan: LoadPlan) -> list[Arrival]:
    """Sign-ups of users who have not joined yet, in random order: on the real curve over the phases, or at a rate."""
    if plan.newcomers:
        newcomers = np.arange(plan.users - plan.newcomers, plan.users)
    else:
        there = [*plan_users(plan), *(user for user, _ in plan.late_celebrities)]
        newcomers = np.setdiff1d(np.arange(plan.users), np.asarray(there, dtype=np.int64))
    generator = rng(plan.seed, "load", "signups")
    if plan.rates.signup_curve:
        due = curve(time_share, len(newcomers), 0, plan.end_ns)
    else:
        due = due_times(generator, plan.rates.signups_per_s, plan.start_ns, plan.end_ns)[: len(newcomers)]
    order = generator.permutation(newcomers)
    return _signups(due, order)


def celebrity_signups(plan: LoadPlan, first: int) -> list[Arrival]:
    """Sign-ups of late celebrities in turn, numbered from `first` on."""
    return _signups(_celebrities_join(plan), np.asarray([user for user, _ in plan.late_celebrities]), first)


def _celebrities_join(plan: LoadPlan) -> Schedule:
    """When late celebrities do: at exact intervals if not said otherwise, the first one interval after the warm-up."""
    rate, start_ns = plan.rates.celebrity_signups_per_s, 0
    if is_even(rate, EVEN):
        start_ns = one_interval_on(rate, start_ns, plan.end_ns)
    due = due_times(rng(plan.seed, "load", "celebrity signups"), rate, start_ns, plan.end_ns, EVEN)
    return due[: len(plan.late_celebrities)]


def _signups(due: Schedule, order: NDArray[np.int64], first: int = 0) -> list[Arrival]:
    return [
        Arrival(due_ns=int(at), kind=ArrivalKind.SIGNUP, number=first + i, actor=int(order[i]))
        for i, at in enumerate(due)
    ]


def post_text(plan: LoadPlan, kind: ArrivalKind, number: int) -> str:
    """The text of a post: the same for the same seed, and no two alike."""
    return f"{_WORDS[number % len(_WORDS)]} #{plan.seed}.{kind}.{number}"


def _share(
    generator: np.random.Generator, count: int, ratio: float, panel_exists: bool, others_exist: bool
) -> NDArray[np.bool_]:
    """Which arrivals the panel takes. All or none of them when one of the groups is empty."""
    drawn = generator.random(count) < ratio
    if panel_exists and others_exist:
        return drawn
    return np.full(count, panel_exists)
