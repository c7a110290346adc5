"""The table [load] of a scenario: how many ops of each sort arrive a second, and which of them go together. Pure."""

from __future__ import annotations

import msgspec

from harness.core.units import parse_rate_per_s
from harness.core.values import Parser, flag

MOST_TOUCHED = 0.5
"""share of the posts that deletes, hides and moderations may take away: the others are what durability is judged on"""


class Load(msgspec.Struct, kw_only=True, frozen=True):
    """Open-loop arrival rates, per second, over all regions together.

    Posts, reads, celebrity posts and sign-ups arrive from the start of the warm-up, all others from its end.
    """

    posts_per_s: float = 0.0
    reads_per_s: float = 0.0
    celebrity_posts_per_s: float = 0.0
    signups_per_s: float = 0.0
    signup_curve: bool = False
    """the real sign-up curve, compressed so that every user joins within the phases"""
    edges_per_s: float = 0.0
    """changes of edges: follows, unfollows, blocks, unblocks"""
    deletes_per_s: float = 0.0
    """posts that their authors delete"""
    hides_per_s: float = 0.0
    """posts that their authors hide, and show again a while later"""
    moderations_per_s: float = 0.0
    """posts that an operator takes out of sight, and lets back a while later"""
    replies_per_s: float = 0.0
    """posts of panel sessions that answer one they saw"""
    likes_per_s: float = 0.0
    """likes by panel sessions of posts they saw"""
    probes_per_s: float = 0.0
    """feed pages asked for with cursors that are none of one's own, or at another region"""
    repeats_per_s: float = 0.0
    """posts sent once more, with the same idempotency key, after they were acknowledged"""


# key in the file -> (field of the struct, parser)
LOAD: dict[str, tuple[str, Parser]] = {
    **{
        key: (f"{key}_per_s", parse_rate_per_s)
        for key in (
            "posts", "reads", "celebrity_posts", "signups", "edges", "deletes", "hides", "moderations", "replies",
            "likes", "probes", "repeats",
        )
    },
    "signup_curve": ("signup_curve", flag),
}  # fmt: skip
_BY_THE_PANEL = ("replies", "likes", "probes")
_OF_POSTS = ("deletes", "hides", "moderations", "repeats")


def load_problems(load: Load, *, panel: int, celebrities: int, joined: str) -> list[str]:
    """What rates ask for that this population, or the other rates, cannot give: each with its path."""
    problems = []
    if load.celebrity_posts_per_s and not celebrities:
        problems.append("load.celebrity_posts: needs population.celebrities")
    if load.signup_curve and joined == "all":
        problems.append('load.signup_curve: needs population.joined = "none"')
    if load.edges_per_s and joined == "none":
        problems.append('load.edges: needs population.joined = "all"')
    asked = {key: getattr(load, field) for key, (field, _) in LOAD.items()}
    problems += [f"load.{key}: needs population.panel" for key in _BY_THE_PANEL if asked[key] and not panel]
    problems += [f"load.{key}: needs load.posts" for key in _OF_POSTS if asked[key] and not load.posts_per_s]
    problems += [f"load.{key}: needs load.reads" for key in ("replies", "likes") if asked[key] and not load.reads_per_s]
    touched = load.deletes_per_s + load.hides_per_s + load.moderations_per_s
    if load.posts_per_s and touched > MOST_TOUCHED * load.posts_per_s:
        problems.append(
            f"load.deletes, hides and moderations together: must be <= {MOST_TOUCHED:.0%} of load.posts "
            f"({load.posts_per_s:g}/s), got {touched:g}/s"
        )
    return problems
