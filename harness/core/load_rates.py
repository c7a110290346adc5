"""The table [load] of a scenario: how many ops of each sort arrive a second, and which of them go together. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.core.population import Population
from harness.core.rate_shapes import EVEN, Rate, is_even, mean_per_s
from harness.core.units import parse_rate_per_s
from harness.core.values import Parser, flag, text

MOST_TOUCHED = 0.5
"""share of the posts that deletes, hides and moderations may take away: the others are what durability is judged on"""


class Trace(msgspec.Struct, kw_only=True, frozen=True):
    """Recorded arrivals that are played again (`harness.load.trace`)."""

    path: str
    speed: float = 1.0
    """2: twice as fast as they were recorded"""
    kinds: tuple[str, ...] = ()
    """kinds of arrivals there are in the file, known once it was read"""
    regions: tuple[str, ...] = ()
    """regions named in the file"""


class Load(msgspec.Struct, kw_only=True, frozen=True):
    """Open-loop arrival rates, per second, over all regions together; each steady, or of a shape.

    Posts, reads, celebrity posts and sign-ups arrive from the start of the warm-up, all others from its end.
    """

    posts_per_s: Rate = 0.0
    reads_per_s: Rate = 0.0
    celebrity_posts_per_s: Rate = 0.0
    signups_per_s: Rate = 0.0
    celebrity_signups_per_s: Rate = 0.0
    """sign-ups of late celebrities, in turn"""
    signup_curve: bool = False
    """the real sign-up curve, compressed so that every user joins within the phases"""
    edges_per_s: Rate = 0.0
    """changes of edges: follows, unfollows, blocks, unblocks"""
    deletes_per_s: Rate = 0.0
    """posts that their authors delete"""
    hides_per_s: Rate = 0.0
    """posts that their authors hide, and show again a while later"""
    moderations_per_s: Rate = 0.0
    """posts that an operator takes out of sight, and lets back a while later"""
    replies_per_s: Rate = 0.0
    """posts of panel sessions that answer one they saw"""
    likes_per_s: Rate = 0.0
    """likes by panel sessions of posts they saw"""
    probes_per_s: Rate = 0.0
    """feed pages asked for with cursors that are none of one's own, or at another region"""
    repeats_per_s: Rate = 0.0
    """posts sent once more, with the same idempotency key, after they were acknowledged"""
    trace: Trace | None = None
    """arrivals beside those of the rates"""

    def asks_for(self, key: str) -> bool:
        """Whether ops of this rate arrive, by it or by the trace."""
        traced = self.trace is not None and TRACED.get(key) in self.trace.kinds
        return traced or bool(getattr(self, LOAD[key][0]))


TRACED = {
    "reads": "read",
    "posts": "post",
    "celebrity_posts": "celebrity",
    "replies": "reply",
    "likes": "like",
}
"""rate -> the kind of arrival that a trace may have of it"""


def _speed(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.001 <= value <= 1000:
        raise ValueError(f"must be a number from 0.001 to 1000, got {value!r}")
    return float(value)


# key in the file -> (field of the struct, parser)
TRACE: dict[str, tuple[str, Parser]] = {"path": ("path", text), "speed": ("speed", _speed)}
LOAD: dict[str, tuple[str, Parser]] = {
    **{
        key: (f"{key}_per_s", parse_rate_per_s)
        for key in (
            "posts", "reads", "celebrity_posts", "signups", "celebrity_signups", "edges", "deletes", "hides",
            "moderations", "replies", "likes", "probes", "repeats",
        )
    },
    "signup_curve": ("signup_curve", flag),
}  # fmt: skip
_BY_THE_PANEL = ("replies", "likes", "probes")
_OF_POSTS = ("deletes", "hides", "moderations", "repeats")


def load_problems(load: Load, *, population: Population, length_s: float) -> list[str]:
    """What rates ask for that this population, or the other rates, cannot give: each with its path."""
    problems, panel = [], population.panel
    if load.celebrity_posts_per_s and not population.all_celebrities:
        problems.append("load.celebrity_posts: needs population.celebrities")
    problems += _signup_problems(load, population, length_s)
    if load.edges_per_s and population.joined == "none":
        problems.append('load.edges: needs population.joined = "all"')
    asked = {key: getattr(load, field) for key, (field, _) in LOAD.items()}
    problems += [f"load.{key}: needs population.panel" for key in _BY_THE_PANEL if asked[key] and not panel]
    problems += [f"load.{key}: needs load.posts" for key in _OF_POSTS if asked[key] and not load.posts_per_s]
    problems += [f"load.{key}: needs load.reads" for key in ("replies", "likes") if asked[key] and not load.reads_per_s]
    taken = (load.deletes_per_s, load.hides_per_s, load.moderations_per_s)
    touched, posts = sum(mean_per_s(rate, length_s) for rate in taken), mean_per_s(load.posts_per_s, length_s)
    if posts and touched > MOST_TOUCHED * posts:
        problems.append(
            f"load.deletes, hides and moderations together: must be <= {MOST_TOUCHED:.0%} of load.posts "
            f"({posts:g}/s), got {touched:g}/s"
        )
    return problems


def _signup_problems(load: Load, population: Population, length_s: float) -> list[str]:
    """Sign-ups of nobody, and people who never sign up."""
    problems, rate = [], load.celebrity_signups_per_s
    if load.signup_curve and population.joined == "all" and not population.newcomers:
        problems.append('load.signup_curve: needs population.joined = "none", or population.newcomers')
    if population.newcomers and not (load.signups_per_s or load.signup_curve):
        problems.append("population.newcomers: needs load.signups, or load.signup_curve")
    if rate and not population.late_celebrities:
        problems.append("load.celebrity_signups: needs population.late_celebrities")
    if population.late_celebrities and not rate:
        problems.append("population.late_celebrities: needs load.celebrity_signups")
    elif is_even(rate, EVEN) and 0 < mean_per_s(rate, length_s) * length_s <= 1:
        problems.append("load.celebrity_signups: the first comes one interval after the warm-up, not within the phases")
    return problems


def trace_problems(load: Load, *, panel: int, celebrities: int) -> list[str]:
    """What the trace has that this population cannot do."""
    kinds = load.trace.kinds if load.trace is not None else ()
    problems = [
        f"load.trace: {kind} needs population.panel" for kind in ("reply", "like") if kind in kinds and not panel
    ]
    if "celebrity" in kinds and not celebrities:
        problems.append("load.trace: celebrity needs population.celebrities")
    return problems
