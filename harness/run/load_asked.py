"""What of a scenario's load the target can take. The rest is left out, by name and with the reason; never silently.

What the scenario could not mean without it is an error instead: listeners over HTTP/2 need an edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from harness.contract.profile import Profile
from harness.core.errors import UnavailableError
from harness.core.load_rates import LOAD, TRACED, Load
from harness.load.plan import EXPIRED, OTHER_NODE, PROBES, LoadPlan, PlanRegion
from harness.load.trace import too_late

_NEEDS = {
    "deletes": "delete",
    "hides": "hide",
    "moderations": "moderate",
    "likes": "like",
    "probes": "paging",
    "repeats": "idempotency",
}
"""rate -> the capability it takes"""


def plan_regions(profile: Profile) -> dict[str, PlanRegion]:
    """The regions of a running target, as plans name them."""
    return {
        name: PlanRegion(api=urls.api, stream=urls.stream, streams=tuple(urls.streams), edge=urls.edge)
        for name, urls in profile.regions.items()
    }


def load_asked(plan: LoadPlan, profile: Profile) -> LoadPlan:
    """The plan without what the target cannot do; `left_out` tells what that is.

    Raises UnavailableError when there are to be listeners over HTTP/2 and a region has no edge.
    """
    _require_edges(plan, profile)
    reasons = dict(_reasons(plan.rates, profile))
    fields: dict[str, Any] = {LOAD[rate][0]: 0.0 for rate in reasons}
    if (trace := plan.rates.trace) is not None:
        done = tuple(kind for kind in trace.kinds if kind not in {TRACED.get(rate) for rate in reasons})
        fields["trace"] = msgspec.structs.replace(trace, kinds=done)
    wanted = msgspec.structs.replace(plan, cursor_ttl_s=profile.capabilities.cursor_ttl_s)
    without = dict(_probes_left_out(wanted, profile))
    left_out = [f"load.{rate}: {reason}" for rate, reason in reasons.items()]
    left_out += _details(plan.rates, profile)
    left_out += [late] if (late := too_late(plan)) else []
    if plan.rates.probes_per_s and "probes" not in reasons:
        left_out += [f"{variant} cursors of load.probes: {reason}" for variant, reason in without.items()]
    return msgspec.structs.replace(
        wanted,
        rates=msgspec.structs.replace(plan.rates, **fields),
        blocks=profile.capabilities.block,
        lookups=profile.capabilities.batch,
        probes=tuple(variant for variant in (*PROBES, EXPIRED) if variant not in without),
        operator_token_file=profile.operator_token_file,
        ca_file=profile.ca_file,
        left_out=tuple(left_out),
    )


def _require_edges(plan: LoadPlan, profile: Profile) -> None:
    lacking = [name for name, region in plan.regions.items() if not region.edge]
    if plan.listening.http2 and plan.listeners and lacking:
        why = f"; {', '.join(profile.missing)} missing on this machine" if profile.missing else ""
        raise UnavailableError(
            f"listeners.http2: target {profile.name} has no edge over TLS in region {', '.join(lacking)}{why}. "
            "Name one as `edge` of the region, or set listeners.http2 = 0"
        )


def _reasons(load: Load, profile: Profile) -> Iterator[tuple[str, str]]:
    """Rates that must be 0, each with the reason."""
    for rate, capability in _NEEDS.items():
        if not load.asks_for(rate):
            continue
        if not getattr(profile.capabilities, capability):
            yield rate, f"target {profile.name} lacks {capability}"
        elif rate == "moderations" and not profile.operator_token_file:
            yield rate, f"the operator token of target {profile.name} is not known"


def _probes_left_out(plan: LoadPlan, profile: Profile) -> Iterator[tuple[str, str]]:
    """Variants of probes that cannot be made, each with the reason."""
    if len(plan.regions) < 2 or not profile.capabilities.regions:
        yield OTHER_NODE, f"target {profile.name} has one region"
    if not plan.cursor_ttl_s:
        yield EXPIRED, f"how long a cursor of target {profile.name} is valid is not known"
    elif plan.expired_after_ns >= plan.end_ns:
        yield EXPIRED, f"a cursor of target {profile.name} is valid for {plan.cursor_ttl_s:g} s, longer than the run"


def _details(load: Load, profile: Profile) -> Iterator[str]:
    """Parts of what is asked for that are left out."""
    if load.edges_per_s and not profile.capabilities.block:
        yield f"blocks of load.edges: target {profile.name} lacks block"
    if load.asks_for("replies") and not profile.capabilities.batch:
        yield f"look-ups of the parents of load.replies: target {profile.name} lacks batch"
