"""The invariants, one file each. To add one: a file with a `CHECKER`, and a line in the map below."""

from __future__ import annotations

from harness.judge.invariants import (
    author_order,
    causal,
    convergence,
    cross_region,
    cursor_completeness,
    cursor_integrity,
    durability,
    eligibility,
    honest_degradation,
    monotonic_reads,
    no_duplicates,
    no_phantom,
    order,
    read_your_writes,
    sse_completeness,
    sse_soundness,
    tier_equivalence,
    visibility,
    witness,
)
from harness.judge.trial import Checker

CHECKERS: dict[str, Checker] = {
    "durability": durability.CHECKER,
    "no_phantom": no_phantom.CHECKER,
    "no_duplicates": no_duplicates.CHECKER,
    "order": order.CHECKER,
    "author_order": author_order.CHECKER,
    "read_your_writes": read_your_writes.CHECKER,
    "monotonic_reads": monotonic_reads.CHECKER,
    "causal": causal.CHECKER,
    "visibility": visibility.CHECKER,
    "cross_region": cross_region.CHECKER,
    "convergence": convergence.CHECKER,
    "cursor_completeness": cursor_completeness.CHECKER,
    "cursor_integrity": cursor_integrity.CHECKER,
    "sse_soundness": sse_soundness.CHECKER,
    "sse_completeness": sse_completeness.CHECKER,
    "eligibility": eligibility.CHECKER,
    "tier_equivalence": tier_equivalence.CHECKER,
    "honest_degradation": honest_degradation.CHECKER,
    "witness": witness.CHECKER,
}
"""name in verdicts and scenarios -> checker"""
