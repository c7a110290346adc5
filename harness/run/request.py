"""What a person asked for, checked as a whole before anything starts: every problem at once, each with its path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaos.faults import KINDS
from chaos.guard import validate_phases
from chaos.handles import matching, unmatched
from chaos.kind import parse_parameters
from chaos.timeline import fault_paths
from harness.contract.profile import Profile, load_profile, require_loopback
from harness.core.errors import UsageError, nearest
from harness.core.scenario import Phase, Scenario
from harness.judge.expressions import parse_expectations
from harness.run.scenario_file import load_scenario


@dataclass(frozen=True)
class RunRequest:
    """A run to be made."""

    scenario: Scenario
    profile: Profile
    out: Path
    """directory of the run"""
    defects: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that will be played: without faults on a target that offers no handles."""
        return self.scenario.phases if self.has_handles else without_faults(self.scenario.phases)

    @property
    def has_handles(self) -> bool:
        """Whether the target lets chaos touch anything."""
        return bool(self.profile.handles or (self.profile.start and self.profile.start.handles))


def without_faults(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The same timeline, undisturbed."""
    return tuple(Phase(name=p.name, duration_s=p.duration_s) for p in phases)


def read_request(
    scenario_name: str,
    target: str | None,
    assignments: Sequence[str],
    seed: int | None,
    out: Path,
    defects: Sequence[str] = (),
    flags: Sequence[str] = (),
    allow_hosts: Sequence[str] = (),
) -> RunRequest:
    """A request in which nothing is left to complain about. Raises UsageError with every problem found."""
    problems: list[str] = []
    scenario, profile = None, None
    try:
        scenario = load_scenario(scenario_name, assignments, seed)
    except UsageError as error:
        problems += error.problems
    try:
        profile = load_profile(target or (scenario.target if scenario else "reference"))
        require_loopback(profile, allow_hosts)
    except UsageError as error:
        problems += error.problems
    if profile is not None:
        problems += _option_problems(profile, defects, flags)
    if scenario is not None and profile is not None:
        problems += _expectation_problems(scenario, profile) + _fault_problems(scenario, profile, allow_hosts)
        problems += _identity_problems(scenario, profile)
    if problems or scenario is None or profile is None:
        raise UsageError(problems)
    return RunRequest(scenario, profile, out, tuple(defects), tuple(flags), tuple(allow_hosts))


def _option_problems(profile: Profile, defects: Sequence[str], flags: Sequence[str]) -> list[str]:
    known = profile.start.defects if profile.start else []
    accepted = profile.start.options if profile.start else []
    problems = [f"--defect: unknown defect {d!r}{nearest(d, known)}" for d in defects if d not in known]
    if defects and "defect" not in accepted:
        problems = [f"--defect: target {profile.name} has no planted defects"]
    if flags and "flag" not in accepted:
        problems.append(f"--flag: target {profile.name} takes no flags at start")
    problems += [f"--flag {f}: must look like NAME=VALUE" for f in flags if "=" not in f]
    return problems


def _identity_problems(scenario: Scenario, profile: Profile) -> list[str]:
    """A run acts as users 0 .. users-1: the target must have left these to the harness."""
    free = profile.users.numbers(scenario.population.users)
    if profile.users.first > 0:
        return [f"target {profile.name}: users.identities must begin at 0 for runs, got {profile.users.first}"]
    if scenario.population.users > len(free):
        return [f"population.users: target {profile.name} leaves {len(free)} identities to the harness"]
    return []


def _expectation_problems(scenario: Scenario, profile: Profile) -> list[str]:
    regions = list(profile.regions) or (profile.start.regions if profile.start else [])
    try:
        parse_expectations(scenario.expect, phases=[p.name for p in scenario.phases], regions=regions)
    except UsageError as error:
        return error.problems
    return []


def _fault_problems(scenario: Scenario, profile: Profile, allow_hosts: Sequence[str]) -> list[str]:
    """Problems of the faults. Handles of a target that is not up yet are known by name only."""
    if profile.handles:
        return validate_phases(scenario.phases, profile.handles, allow_hosts)
    names = profile.start.handles if profile.start else []
    problems = []
    for path, spec in fault_paths(scenario.phases).items():
        if spec.kind not in KINDS:
            problems.append(f"{path}.kind: unknown fault kind {spec.kind!r}{nearest(spec.kind, KINDS)}")
        else:
            problems += [f"{path}.{problem}" for problem in parse_parameters(KINDS[spec.kind], spec.params)[1]]
        if names and not matching(spec.handle, names):
            problems.append(f"{path}.handle: {unmatched(spec.handle, names)}")
    return problems
