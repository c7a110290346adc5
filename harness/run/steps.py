"""The steps of a search for capacity: one run each, over one undisturbed phase, against a target that stays up between
them where it may.

A target is kept after a step that held, when nothing that a step does changes whom the next one takes for granted
(sign-ups, edges). After any other it is ended, and the next step gets a fresh one: what an overload left behind would
be judged there. A kept target has the posts of the steps before; those are no posts of the run to its checkers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import msgspec

from harness.contract.profile import Profile
from harness.core.json_file import write_json
from harness.core.rate_shapes import peak_per_s
from harness.core.scenario import Phase, Scenario, Stop
from harness.core.verdict import Check, CheckKind, Outcome, Verdict
from harness.judge.capacity import Answer, Goodput, answer_of
from harness.judge.case import read_case
from harness.judge.expressions import RECOVERY, parse_selection, parse_threshold
from harness.judge.goodput import goodput_of
from harness.judge.saturation import Pressure, Usage, pressures
from harness.load.population import make_population, write_population
from harness.record.conversion import OPS
from harness.record.run_directory import RunDirectory
from harness.run.execute import Execution, Observer, Progress
from harness.run.load_processes import StreamsNotOpened
from harness.run.request import RunRequest
from harness.run.stages import open_run
from harness.run.target import target_up
from harness.run.usage import UsageWatch

BASELINE = "baseline"
"""kind of a phase without faults"""
USAGE = "usage.json"
_AMOUNTS = ("count", "rate")
"""bounds on them are of the whole run at its own size"""


class StepResult(msgspec.Struct, kw_only=True):
    """One step."""

    verdict: Verdict
    goodput: Goodput = Goodput()
    pressures: list[Pressure] = []
    """the nearest to its limit first"""

    @property
    def answer(self) -> Answer:
        """What it says of its level."""
        return answer_of(self.verdict)[0]


def step_scenario(scenario: Scenario, length_s: float) -> tuple[Scenario, list[str]]:
    """The scenario as one phase of that length in which nothing breaks, and what of its expectations cannot be asked.

    The phase has the name of the scenario's first one without faults. Left out: what is said of other phases, of
    recovery, and bounds on amounts, which are of the whole run at its own size.
    """
    calm = next((phase.name for phase in scenario.phases if not phase.faults), "steady")
    kept: dict[str, tuple[str, ...]] = {}
    left_out: list[str] = []
    for selector, texts in scenario.expect.items():
        if selector == "invariants":
            kept[selector] = texts
            continue
        holds = [text for text in texts if _is_asked(selector, text, calm)]
        left_out += [f"{selector} {text}" for text in texts if text not in holds]
        if holds:
            kept[selector] = tuple(holds)
    made = msgspec.structs.replace(
        scenario,
        phases=(Phase(name=calm, duration_s=length_s),),
        expect=kept,
        chaos=None,
        stop=Stop(),
        tolerance={},
    )
    return made, left_out


def _is_asked(selector: str, text: str, calm: str) -> bool:
    """Whether an expectation can be asked of an undisturbed phase of that name. What is malformed is: that is told."""
    if selector == RECOVERY:
        return False
    selection = parse_selection("", selector, {}, [])
    try:
        amount = parse_threshold(text).aggregation in _AMOUNTS
    except ValueError:
        amount = False
    phase = selection.tags.get("phase", calm) if selection is not None else calm
    return phase in (calm, BASELINE) and not amount


def may_keep(request: RunRequest) -> bool:
    """Whether one target can serve several steps: the harness starts it, and no step changes who follows whom."""
    load = request.scenario.load
    changing = (load.signups_per_s, load.celebrity_signups_per_s, load.edges_per_s)
    changes = load.signup_curve or any(peak_per_s(rate) for rate in changing)
    return request.profile.start is not None and request.scenario.population.joined == "all" and not changes


Watching = Callable[[], AbstractContextManager[Observer]]
Run = Callable[[RunRequest, Observer], Awaitable[Verdict]]
"""makes and judges one run, telling the observer"""


async def real_run(request: RunRequest, observe: Observer) -> Verdict:
    """A whole run. Raises FeedstormError."""
    return await Execution(request, observe).execute()


@dataclass
class TargetSteps:
    """Makes steps against a real target."""

    watching: Watching
    """shows a run while the block lasts"""
    keep: bool
    run: Run = real_run
    _undo: AsyncExitStack = field(default_factory=AsyncExitStack)
    _kept: Profile | None = None

    async def step(self, request: RunRequest) -> StepResult:
        """One run; streams that the target does not open are an answer as well. Raises FeedstormError as a run does."""
        if self.keep:
            request = replace(request, running=await self._running(request))
        usage = UsageWatch()
        with self.watching() as show:

            def observe(progress: Progress) -> None:
                show(progress)
                usage(progress)

            try:
                verdict = await self.run(request, observe)
            except StreamsNotOpened as error:
                await self.end_target()
                return StepResult(verdict=unopened(request.scenario, error))
        result = result_of(RunDirectory(request.out), verdict, usage.usage)
        if result.answer is not Answer.HELD:
            await self.end_target()
        return result

    async def _running(self, request: RunRequest) -> Profile:
        """The kept target, started in the directory of this step when there is none: what a kill leaves is healed."""
        if self._kept is None:
            run, scenario = open_run(request.out), request.scenario
            population = make_population(scenario.population, scenario.seed)
            write_population(population, scenario.population, scenario.seed, run.population)
            up = target_up(request.profile, run, population.users, request.defects, request.flags)
            self._kept = await self._undo.enter_async_context(up)
        return self._kept

    async def end_target(self) -> None:
        """End what is kept."""
        self._kept = None
        await self._undo.aclose()


@asynccontextmanager
async def target_steps(watching: Watching, *, keep: bool, run: Run = real_run) -> AsyncIterator[TargetSteps]:
    """Steps against a real target; a kept one is gone when the block ends."""
    steps = TargetSteps(watching, keep, run)
    try:
        yield steps
    finally:
        await steps.end_target()


def unopened(scenario: Scenario, error: StreamsNotOpened) -> Verdict:
    """A target that does not open the streams fails; when this machine has no room for more, nothing is known of it."""
    check = Check(
        name=f"{error.opened:,} of {error.wanted:,} streams opened: {error.foremost}",
        kind=CheckKind.GENERATOR if error.are_ours else CheckKind.SLO,
        verdict=Outcome.INCONCLUSIVE if error.are_ours else Outcome.FAIL,
        reason=str(error),
    )
    return Verdict(verdict=check.verdict, scenario=scenario.name, seed=scenario.seed, checks=[check])


def result_of(run: RunDirectory, verdict: Verdict, usage: Usage) -> StepResult:
    """What is known of a judged run; its usage is kept beside it."""
    write_json(run.path / USAGE, usage)
    case = read_case(run)
    return StepResult(
        verdict=verdict,
        goodput=goodput_of(case, run.history / OPS),
        pressures=pressures(case, usage, verdict.machine),
    )
