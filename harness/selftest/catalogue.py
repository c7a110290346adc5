"""Which checker must catch which planted defect of the reference stack, and what trouble makes the defect show. Data.

The stack names its defects itself (the target profile lists them); a test keeps both lists equal.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from harness.core.scenario import FaultSpec

SCENARIO = "selftest"
TARGET = "reference"
CONVERGENCE_S = 6.0
"""what the target promises here in place of its profile's: the population is small, and each run is to be short"""


class Trouble(StrEnum):
    """What happens in the middle of a run."""

    CACHE = "cache"
    """one region loses its timeline cache"""
    EDGE = "edge"
    """one region's stream edge dies, listeners come back"""
    GRAPH = "graph"
    """one region's graph service is started again"""
    API = "api"
    """one region's api dies"""
    OWNER = "owner"
    """one region loses its cache while fan-out stands still: pages come from the durable store"""
    LINK = "link"
    """two regions are far from each other: what the other one wrote arrives late"""
    JOINING = "joining"
    """a celebrity signs up whom many follow already; no fault"""


def _fault(kind: str, handle: str, hold_s: float = 2.0, **params: str) -> FaultSpec:
    return FaultSpec(kind=kind, handle=handle, hold_s=hold_s, at_s=0.5, params=params)


FAULTS: dict[Trouble, tuple[FaultSpec, ...]] = {
    Trouble.CACHE: (_fault("kill", "us-east.memcached"),),
    Trouble.EDGE: (_fault("kill", "us-east.fep"),),
    Trouble.GRAPH: (_fault("kill", "us-east.graph"),),
    Trouble.API: (_fault("kill", "us-east.api"),),
    Trouble.OWNER: (_fault("kill", "us-east.memcached", 3.0), _fault("pause", "us-east.fanout", 3.0)),
    Trouble.LINK: (_fault("latency", "link.*", 3.0, latency="2s"),),
    Trouble.JOINING: (),
}
"""faults of the phase TROUBLED"""
TROUBLED = "trouble"
WAITING = 150
"""follows that pend under JOINING: more than any ordinary author has"""
JOINS_AFTER_S = 6.0
"""of the phases; five more seconds, and his posts count"""
CELEBRITY_POSTS_PER_S = 2.0
"""from then on"""


class Planted(msgspec.Struct, frozen=True):
    """A defect, and who must catch it."""

    defect: str
    caught_by: str
    """column of the matrix: an invariant, "recovery", or the metric of an SLO"""
    trouble: Trouble = Trouble.CACHE


PLANTED: tuple[Planted, ...] = (
    # accepting
    Planted("lose-after-ack", "durability"),
    Planted("ack-before-durable", "durability", Trouble.API),
    Planted("key-forgotten", "no_duplicates"),
    Planted("author-overtaken", "author_order"),
    Planted("refused-but-done", "honest_degradation"),
    # fan-out and timelines
    Planted("no-wal", "durability"),
    Planted("redelivered-twice", "sse_completeness"),
    Planted("hot-loses-entry", "durability"),
    Planted("cold-never-merged", "tier_equivalence"),
    Planted("event-before-visible", "sse_soundness"),
    Planted("slow-fan-out", "visibility"),
    # the cache and what it is refilled from
    Planted("refill-loses-last", "durability"),
    Planted("resurrect-at-refill", "eligibility"),
    Planted("hide-lost-at-refill", "eligibility"),
    Planted("archive-hole", "convergence"),
    Planted("stale-unmarked", "honest_degradation", Trouble.OWNER),
    Planted("slow-recovery", "recovery"),
    # pages
    Planted("duplicate-entry", "no_duplicates"),
    Planted("phantom-post", "no_phantom"),
    Planted("cursor-skip", "cursor_completeness"),
    Planted("unordered-page", "order"),
    Planted("page-overlap", "cursor_completeness"),
    Planted("cursor-offset", "cursor_completeness"),
    Planted("own-post-missing", "read_your_writes"),
    Planted("flipping-reads", "monotonic_reads"),
    Planted("slow-pages", "feed_read"),
    Planted("always-stale", "honest_degradation"),
    Planted("since-by-time", "sse_soundness", Trouble.LINK),
    Planted("reply-before-parent", "causal"),
    # cursors
    Planted("tampered-cursor", "cursor_integrity"),
    Planted("foreign-cursor", "cursor_integrity"),
    Planted("regional-cursor", "cursor_integrity"),
    # who may see what
    Planted("unfollowed-stays", "eligibility"),
    Planted("block-ignored", "eligibility"),
    Planted("block-lost-at-restart", "eligibility", Trouble.GRAPH),
    Planted("pending-follows-lost", "durability", Trouble.JOINING),
    # replication
    Planted("post-not-replicated", "convergence"),
    Planted("delete-not-replicated", "eligibility"),
    Planted("moderation-not-replicated", "eligibility"),
    Planted("replica-retimed", "order"),
    Planted("replica-cut", "no_phantom"),
    Planted("slow-replication", "cross_region"),
    # streams
    Planted("skip-notify", "sse_completeness"),
    Planted("event-unfollowed", "sse_soundness"),
    Planted("event-twice", "sse_completeness"),
    Planted("token-falls-back", "sse_soundness"),
    Planted("no-resume", "sse_completeness", Trouble.EDGE),
    Planted("deaf-after-resume", "sse_completeness", Trouble.EDGE),
)
"""in the order of the matrix"""

QUICK: tuple[tuple[str, ...], ...] = (
    ("skip-notify", "key-forgotten", "reply-before-parent", "unordered-page", "cold-never-merged"),
    ("post-not-replicated", "own-post-missing"),
    ("refill-loses-last", "slow-recovery", "phantom-post"),
    ("refused-but-done", "page-overlap", "author-overtaken", "slow-replication"),
    ("slow-fan-out", "unfollowed-stays", "event-unfollowed", "foreign-cursor"),
    ("flipping-reads", "slow-pages"),
)
"""runs of the quick sample. Defects that share a run concern other checkers: none of them, alone, turns the checker red
that is named for another of its group (docs/detection.md shows each alone)"""


def planted(defect: str) -> Planted:
    """The entry of a defect. Raises KeyError."""
    return {entry.defect: entry for entry in PLANTED}[defect]


def catchers() -> tuple[str, ...]:
    """Every checker that is named for a defect, in the order of the matrix."""
    return tuple(dict.fromkeys(entry.caught_by for entry in PLANTED))
