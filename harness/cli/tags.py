"""Which of the scenarios that ship with feedstorm a tag means."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.errors import UsageError, nearest
from harness.core.scenario import Scenario
from harness.run.scenario_file import load_scenario, scenario_paths


def tagged(tags: Sequence[str] = ()) -> list[Scenario]:
    """Those that have one of the tags (none given: all), in the order of the catalogue; those without a number last.

    Raises UsageError for a tag that no scenario has, and when a file is broken.
    """
    loaded = sorted(map(load_scenario, scenario_paths()), key=_place)
    known = {tag for scenario in loaded for tag in scenario.tags}
    if unknown := [f"--tag: no scenario has {tag!r}{nearest(tag, known)}" for tag in tags if tag not in known]:
        raise UsageError(unknown)
    return [scenario for scenario in loaded if not tags or set(tags).intersection(scenario.tags)]


def _place(scenario: Scenario) -> tuple[float, str]:
    number = scenario.catalogue.number if scenario.catalogue else None
    return (float("inf") if number is None else number, scenario.name)
