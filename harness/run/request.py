"""What a person asked for, checked as a whole before anything starts: every problem at once, each with its path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.faults import KINDS
from chaos.guard import validate_phases
from chaos.handles import matching, unmatched
from chaos.kind import parse_parameters
from chaos.random_plan import fit_problems, plan_problems
from chaos.timeline import fault_paths
from harness.contract.flag_kind import flag_problem
from harness.contract.profile import Profile, load_profile, require_loopback, with_preset, with_proxies
from harness.core.errors import UsageError, nearest
from harness.core.population import EDGES
from harness.core.scenario import Phase, Scenario
from harness.judge.expressions import METRICS, RECOVERY, parse_expectations
from harness.judge.invariants import CHECKERS
from harness.judge.tolerance import parse_tolerance
from harness.load.edge_list import check_edges
from harness.record.run_directory import RunDirectory
from harness.run.live_slos import parse_stop
from harness.run.machines import Meeting
from harness.run.names import in_words_of
from harness.run.scenario_file import load_scenario
from harness.run.stream_users import with_token_files


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
    is_game_day: bool = False
    """faults come by hand, and the operator says when it ends"""
    baseline: tuple[RunDirectory, ...] = ()
    """judged runs that it is compared with at its end"""
    workers: int = 1
    """Locust processes on this machine"""
    meeting: Meeting | None = None
    """where workers of other machines join; None: this machine makes all the load"""
    running: Profile | None = None
    """the target, when it is up already and has this population; None: the run starts it, or connects to it"""

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases that will be played: without faults on a target that offers no handles."""
        return self.scenario.phases if self.has_handles else without_faults(self.scenario.phases)

    @property
    def plans_faults(self) -> bool:
        """Whether faults are due by plan."""
        drawn = self.has_handles and self.scenario.chaos is not None
        return drawn or any(phase.faults for phase in self.phases)

    @property
    def is_populated(self) -> bool:
        """Whether the target has the population by itself, or takes it at its start."""
        return self.running is not None or takes_population(self.profile)

    @property
    def has_handles(self) -> bool:
        """Whether the target lets chaos touch anything."""
        return bool(self.profile.handles or (self.profile.start and self.profile.start.handles))


def takes_population(profile: Profile) -> bool:
    """Whether the target is handed the population at its start."""
    return profile.start is not None and "{population}" in " ".join(profile.start.command)


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
    preset: str | None = None,
    adapt: Callable[[Scenario], Scenario] | None = None,
    scale: float = 1.0,
) -> RunRequest:
    """A request in which nothing is left to complain about. Raises UsageError with every problem found.

    `adapt` makes of the scenario in the file the one that is run; it may raise UsageError too.
    """
    problems: list[str] = []
    scenario, profile = None, None
    try:
        scenario = load_scenario(scenario_name, assignments, seed, scale)
        scenario = adapt(scenario) if adapt is not None else scenario
    except UsageError as error:
        problems += error.problems
    try:
        profile = load_profile(target if target is not None else scenario.target if scenario else "reference")
        require_loopback(profile, allow_hosts)
    except UsageError as error:
        problems += error.problems
    if profile is not None:
        problems += _option_problems(profile, defects, flags)
    if scenario is not None and profile is not None:
        scenario = in_words_of(scenario, profile.names)
        problems += _catalogue_problems(scenario, profile)
        problems += _problems(scenario, _with_named_links(profile, scenario), allow_hosts)
    if profile is not None and preset is not None:
        profile, found = _shaped(profile, preset, scenario, allow_hosts)
        problems += found
    if problems or scenario is None or profile is None:
        raise UsageError(problems)
    profile = _with_named_links(profile, scenario)
    return RunRequest(scenario, profile, out, tuple(defects), (*scenario.flags, *flags), tuple(allow_hosts))


def _with_named_links(profile: Profile, scenario: Scenario) -> Profile:
    """The target with proxies on the links without a handle of their own that the scenario's network faults name."""
    choices = profile.start.proxies if profile.start else []
    faults = [fault for phase in scenario.phases for fault in phase.faults]
    patterns = [f.handle for f in faults if f.kind in KINDS and "toxiproxy" in KINDS[f.kind].backends]
    drawn = scenario.chaos.handles if scenario.chaos is not None else ()
    links = {name for p in patterns for name in matching(p, choices)} | set(drawn).intersection(choices)
    return with_proxies(profile, sorted(links))


def _problems(scenario: Scenario, profile: Profile, allow_hosts: Sequence[str]) -> list[str]:
    """Why this scenario cannot be run against this target."""
    problems = _expectation_problems(scenario, profile) + _fault_problems(scenario, profile, allow_hosts)
    problems += _identity_problems(scenario, profile) + _trace_problems(scenario, profile) + _graph_problems(scenario)
    return problems + _late_problems(scenario, profile)


def _shaped(
    profile: Profile, preset: str, scenario: Scenario | None, allow_hosts: Sequence[str]
) -> tuple[Profile, list[str]]:
    """The target in the preset's shape, and what the scenario needs of it that the preset leaves out."""
    try:
        shaped = with_preset(profile, preset)
    except UsageError as error:
        return profile, error.problems
    if scenario is None or shaped.start is None:
        return shaped, []
    without = _problems(scenario, _with_named_links(profile, scenario), allow_hosts)
    has = ", ".join(shaped.start.regions)
    return shaped, [
        f"--preset {preset}: scenario {scenario.name} needs more than it has (its regions: {has}): {problem}"
        for problem in _problems(scenario, _with_named_links(shaped, scenario), allow_hosts)
        if problem not in without
    ]


def _option_problems(profile: Profile, defects: Sequence[str], flags: Sequence[str]) -> list[str]:
    known = profile.start.defects if profile.start else []
    accepted = profile.start.options if profile.start else []
    problems = [f"--defect: unknown defect {d!r}{nearest(d, known)}" for d in defects if d not in known]
    if defects and "defect" not in accepted:
        problems = [f"--defect: target {profile.name} has no planted defects"]
    if flags and "flag" not in accepted:
        problems.append(f"--flag: target {profile.name} takes no flags at start")
    kinds = profile.start.flags if profile.start else {}
    return problems + [f"--flag {flag}: {problem}" for flag in flags if (problem := flag_problem(flag, kinds))]


def _catalogue_problems(scenario: Scenario, profile: Profile) -> list[str]:
    """Flags that this target does not take, and what is said to make the scenario fail but does not exist.

    Defects are those of the target that the scenario is written for; another may have others, or none. So are flags.
    """
    takes_flags = profile.start is not None and "flag" in profile.start.options
    problems = [] if takes_flags or not scenario.flags else [f"flags: target {profile.name} takes no flags at start"]
    kinds = profile.start.flags if profile.start else {}
    problems += [f"flags: {flag}: {problem}" for flag in scenario.flags if (problem := flag_problem(flag, kinds))]
    own = profile.start if profile.name == scenario.target else None
    known, kinds = (own.defects, own.flags) if own else ([], {})
    asked_of_target = [key.partition("{")[0].strip() for key in scenario.expect if key.startswith("target:")]
    checks = [*CHECKERS, RECOVERY, *METRICS, *asked_of_target]
    for i, failing in enumerate(scenario.catalogue.fails_with if scenario.catalogue else ()):
        path = f"catalogue.fails_with[{i}]"
        if failing.defect and known and failing.defect not in known:
            problems.append(f"{path}.defect: unknown defect {failing.defect!r}{nearest(failing.defect, known)}")
        if failing.flag and (problem := flag_problem(failing.flag, kinds)):
            problems.append(f"{path}.flag: {failing.flag}: {problem}")
        if failing.check not in checks:
            problems.append(f"{path}.check: unknown check {failing.check!r}{nearest(failing.check, checks)}")
    return problems


def _trace_problems(scenario: Scenario, profile: Profile) -> list[str]:
    """Regions that the trace names and the target has not."""
    known, trace = regions_of(profile), scenario.load.trace
    named = trace.regions if trace is not None else ()
    return [f"load.trace: unknown region {name!r}{nearest(name, known)}" for name in named if name not in known]


def _graph_problems(scenario: Scenario) -> list[str]:
    """Why the follow graph cannot be read from its file, as far as its beginning tells."""
    graph = scenario.population.graph
    if not graph.startswith(EDGES):
        return []
    try:
        check_edges(Path(graph.removeprefix(EDGES)))
    except UsageError as error:
        return [f"population.graph: {problem}" for problem in error.problems]
    return []


def _late_problems(scenario: Scenario, profile: Profile) -> list[str]:
    """Follows of, and by, people who have not signed up can only be handed over."""
    late = [key for key in ("late_celebrities", "newcomers") if getattr(scenario.population, key)]
    if not late or takes_population(profile):
        return []
    return [f"population.{key}: target {profile.name} is not handed the population at its start" for key in late]


def _identity_problems(scenario: Scenario, profile: Profile) -> list[str]:
    """A run acts as users 0 .. users-1: the target must have left these to the harness."""
    free = profile.users.numbers(scenario.population.users)
    if profile.users.first > 0:
        return [f"target {profile.name}: users.identities must begin at 0 for runs, got {profile.users.first}"]
    if scenario.population.users > len(free):
        return [f"population.users: target {profile.name} leaves {len(free)} identities to the harness"]
    return []


def _expectation_problems(scenario: Scenario, profile: Profile) -> list[str]:
    regions, phases = regions_of(profile), [p.name for p in scenario.phases]
    problems: list[str] = []
    for parse in (
        lambda: parse_expectations(scenario.expect, phases=phases, regions=regions),
        lambda: parse_stop(scenario.stop, regions, phases),
        lambda: parse_tolerance(scenario.tolerance, phases=phases, regions=regions),
    ):
        try:
            parse()
        except UsageError as error:
            problems += error.problems
    return problems


def regions_of(profile: Profile) -> list[str]:
    """Names of the target's regions, also of one that is not up yet."""
    return list(profile.regions) or (profile.start.regions if profile.start else [])


def _fault_problems(scenario: Scenario, profile: Profile, allow_hosts: Sequence[str]) -> list[str]:
    """Problems of the faults. Handles of a target that is not up yet are known by name only."""
    if profile.handles:
        lent = with_token_files(profile, Path()).handles  # as a run will have them
        return fault_problems(scenario, scenario.phases, lent, allow_hosts)
    names = profile.start.handles if profile.start else []
    problems = plan_problems(scenario.chaos, scenario.phases, names) if scenario.chaos is not None else []
    for path, spec in fault_paths(scenario.phases).items():
        if spec.kind not in KINDS:
            problems.append(f"{path}.kind: unknown fault kind {spec.kind!r}{nearest(spec.kind, KINDS)}")
        else:
            problems += [f"{path}.{problem}" for problem in parse_parameters(KINDS[spec.kind], spec.params)[1]]
        if names and not matching(spec.handle, names):
            problems.append(f"{path}.handle: {unmatched(spec.handle, names)}")
    return problems


def fault_problems(
    scenario: Scenario, phases: Sequence[Phase], handles: Mapping[str, Mapping[str, Any]], allow_hosts: Sequence[str]
) -> list[str]:
    """Problems of the faults of phases, and of the random plan, on handles that are known."""
    problems = validate_phases(phases, handles, allow_hosts)
    if scenario.chaos is not None:
        unsound = plan_problems(scenario.chaos, phases, handles)
        problems += unsound or fit_problems(scenario.chaos, handles, allow_hosts)
    return problems
