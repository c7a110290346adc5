"""When posts are deleted, hidden, moderated or sent once more, and which posts. Pure and seeded.

A post is meant by the number of its arrival: which id it got is known only while the run lasts. Each is touched once at
most, and only when it has been there for a while, so that it could be seen before; most posts are never touched.

    post ... TOUCH_AGE ... delete
    post ... TOUCH_AGE ... hide ....... 6 to 12 s ....... show          (the same for moderate and lift)
    post . REPEAT_AGE . the same post again                             (posts that nothing touches)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import numpy as np

from harness.core.clock import NS_PER_S
from harness.core.seeds import rng
from harness.load.arrival_kinds import TOUCHES, Arrival, ArrivalKind
from harness.load.arrivals import due_times
from harness.load.plan import LoadPlan

TOUCH_AGE_S = 6.0
"""a post is due at least this long before it is touched"""
SEEN_S = 4.0
"""and acknowledged at least this long before: looked at when the touch is due"""
REPEAT_AGE_S = 1.5
WITHIN_S = 20.0
"""and at most this much longer"""
HIDDEN_S = (6.0, 12.0)
"""how long a post stays out of sight"""
_BACK = {ArrivalKind.HIDE: ArrivalKind.SHOW, ArrivalKind.MODERATE: ArrivalKind.LIFT}
_DRAWS = 20
"""tries to find a post that nobody touched yet"""


def touches(plan: LoadPlan, posts: list[Arrival]) -> list[Arrival]:
    """Deletes, hides and shows, moderations and lifts, from t0; `posts` are the arrivals of posts in order of time."""
    generator = rng(plan.seed, "load", "touches")
    rates = plan.rates
    wanted = zip(TOUCHES, (rates.deletes_per_s, rates.hides_per_s, rates.moderations_per_s), strict=True)
    due = [(int(at), kind) for kind, rate in wanted for at in due_times(generator, rate, 0, plan.end_ns)]
    found: list[Arrival] = []
    for (at, kind), post in _with_posts(generator, sorted(due), posts, TOUCH_AGE_S, set()):
        touch = Arrival(due_ns=at, kind=kind, number=len(found), actor=post.actor, panel=post.panel, target=post.number)
        found += [touch, *_taken_back(plan, generator, touch)]
    return found


def repeats(plan: LoadPlan, posts: list[Arrival], touched: set[int]) -> list[Arrival]:
    """Posts sent once more, from t0; never those whose numbers are `touched`."""
    generator = rng(plan.seed, "load", "repeats")
    due = [(int(at), ArrivalKind.REPEAT) for at in due_times(generator, plan.rates.repeats_per_s, 0, plan.end_ns)]
    chosen = _with_posts(generator, due, posts, REPEAT_AGE_S, set(touched))
    return [
        Arrival(due_ns=at, kind=kind, number=i, actor=post.actor, panel=post.panel, target=post.number)
        for i, ((at, kind), post) in enumerate(chosen)
    ]


def _with_posts(
    generator: np.random.Generator,
    due: list[tuple[int, ArrivalKind]],
    posts: list[Arrival],
    age_s: float,
    taken: set[int],
) -> Iterator[tuple[tuple[int, ArrivalKind], Arrival]]:
    """Each arrival with a post of the right age that nobody took; those for which there is none are left out."""
    times = [post.due_ns for post in posts]
    for at, kind in due:
        newest = at - round(age_s * NS_PER_S)
        first = bisect_left(times, newest - round(WITHIN_S * NS_PER_S))
        end = bisect_right(times, newest)
        for _ in range(_DRAWS if first < end else 0):
            post = posts[int(generator.integers(first, end))]
            if post.number not in taken:
                taken.add(post.number)
                yield (at, kind), post
                break


def _taken_back(plan: LoadPlan, generator: np.random.Generator, touch: Arrival) -> Iterator[Arrival]:
    """A hidden post is shown again, unless the run ends before."""
    back = _BACK.get(touch.kind)
    if back is None:
        return
    at = touch.due_ns + round(generator.uniform(*HIDDEN_S) * NS_PER_S)
    if at < plan.end_ns:
        yield Arrival(
            due_ns=at, kind=back, number=touch.number, actor=touch.actor, panel=touch.panel, target=touch.target
        )
