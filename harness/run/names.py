"""A scenario in the words of another target than it was written for: `names` of that target's profile. Pure.

    [names]
    "us-east" = "eu"                    us-east.memcached becomes eu.memcached, {region:us-east} becomes {region:eu}
    "us-east.memcached" = "eu.cache"    a whole handle goes before its parts

Only what stands in the scenario is renamed; whether the target has it is `harness.run.request`'s to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec.structs import replace

from harness.core.scenario import Phase, Scenario

_REGION = re.compile(r"(\bregion\s*:\s*)([^\s,}]+)")
Expressions = Mapping[str, tuple[str, ...]]


def in_words_of(scenario: Scenario, names: Mapping[str, str]) -> Scenario:
    """The scenario with the handles of its faults, and the regions of its thresholds, as they are called there."""
    if not names:
        return scenario
    chaos = scenario.chaos
    if chaos is not None:
        chaos = replace(chaos, handles=tuple(dict.fromkeys(_handle(handle, names) for handle in chaos.handles)))
    return replace(
        scenario,
        phases=tuple(_phase(phase, names) for phase in scenario.phases),
        chaos=chaos,
        expect=_selectors(scenario.expect, names),
        stop=replace(scenario.stop, expressions=_selectors(scenario.stop.expressions, names)),
        tolerance=_selectors(scenario.tolerance, names),
    )


def _phase(phase: Phase, names: Mapping[str, str]) -> Phase:
    return replace(phase, faults=tuple(replace(fault, handle=_handle(fault.handle, names)) for fault in phase.faults))


def _handle(handle: str, names: Mapping[str, str]) -> str:
    """The handle, or pattern of handles, as a whole or else part by part."""
    return names.get(handle) or ".".join(names.get(part, part) for part in handle.split("."))


def _selectors(expressions: Expressions, names: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The same thresholds; those of two selectors that become one stand together."""
    made: dict[str, tuple[str, ...]] = {}
    for selector, thresholds in expressions.items():
        renamed = _REGION.sub(lambda found: found[1] + names.get(found[2], found[2]), selector)
        made[renamed] = tuple(dict.fromkeys((*made.get(renamed, ()), *thresholds)))
    return made
