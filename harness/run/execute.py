"""One run, from a validated request to a verdict.

    1 write what the run is made of; heal what an older, killed run left behind
    2 population, written for the target to read
    3 bring the target up, or connect to it
    4 tokens, load processes, streams open
    5 phases: load by schedule, faults on their timeline
    6 drain, final reads
    7 end the load processes, merge histograms, end the target
    8 judge, report
Every stage has its undo on one stack. It is unwound in reverse order also on an error, on Ctrl-C and on SIGTERM
(both arrive here as a cancellation).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import msgspec
import numpy as np

from chaos.random_plan import with_random_faults
from chaos.schedule import FaultRunner
from chaos.switch import Switch
from chaos.timeline import DueFault, due_faults
from harness.contract.profile import Profile, require_loopback
from harness.core.clock import NS_PER_S, now_ns
from harness.core.errors import UnavailableError, UsageError
from harness.core.rate_shapes import peak_per_s
from harness.core.scenario import Phase, Scenario
from harness.core.verdict import Verdict
from harness.judge.expressions import Slo, parse_expectations
from harness.load.members import make_plan
from harness.load.plan import LoadPlan, write_plan, write_tokens
from harness.load.population import Population, make_population, resolved, write_population
from harness.load.tokens import obtain_tokens
from harness.record.frames import SUFFIX
from harness.record.histograms import merge_histograms
from harness.record.history import HistoryWriter, being_written
from harness.record.run_directory import RunDirectory
from harness.run import stages
from harness.run.by_hand import ByHand
from harness.run.cover import Arrivals, final_readers
from harness.run.ending import Ending, StopWatch
from harness.run.final_reads import FinalReader, Written, read_written
from harness.run.game_day import game_day_phases
from harness.run.judging import judge_and_store
from harness.run.live import announce
from harness.run.live_slos import parse_stop
from harness.run.load_asked import load_asked, plan_regions
from harness.run.load_parts import workers_problems
from harness.run.load_processes import LoadProcesses, load_processes, null_probe
from harness.run.machines import Machine, master
from harness.run.request import RunRequest, fault_problems
from harness.run.scrape import scrape
from harness.run.stream_users import forget_tokens, with_token_files, write_token_files
from harness.run.target import target_up

LEAD_S = 0.5
"""from the start command to the first arrival"""
DRAIN_QUIET_S = 1.5
DRAIN_LIMIT_S = 20.0
POLL_S = 0.25


@dataclass
class Progress:
    """What a run shows while it runs; `stage` in words, the rest once it exists."""

    request: RunRequest
    run: RunDirectory
    stage: str = "preparing"
    plan: LoadPlan | None = None
    t0_ns: int = 0
    load: LoadProcesses | None = None
    faults: FaultRunner | None = None
    by_hand: ByHand | None = None
    slos: tuple[Slo, ...] = ()
    """what the scenario expects, to be looked at meanwhile"""


Observer = Callable[[Progress], None]


@dataclass
class Execution:
    """One run under way."""

    request: RunRequest
    observe: Observer
    run: RunDirectory = field(init=False)
    scenario: Scenario = field(init=False)
    population: Population = field(init=False)
    profile: Profile = field(init=False)
    plan: LoadPlan = field(init=False)
    phases: tuple[Phase, ...] = field(init=False)
    """with every fault that is planned, drawn ones included"""
    by_hand: ByHand = field(init=False)
    ending: Ending = field(default_factory=Ending)
    """ends the phases before their time"""
    tokens: dict[int, str] = field(default_factory=dict)
    machines: list[Machine] = field(default_factory=list)
    """workers of other machines"""
    progress: Progress = field(init=False)

    async def execute(self) -> Verdict:
        """All stages. Raises FeedstormError for what a person can act on."""
        self.run = stages.open_run(self.request.out)
        self.by_hand = ByHand(self.run)
        self.progress = Progress(self.request, self.run, by_hand=self.by_hand)
        watcher = asyncio.create_task(self._watch())
        last_stage = "ended before its time"
        try:
            async with AsyncExitStack() as undo:
                undo.enter_context(being_written(self.run.history))
                self._prepare()
                await self._meet_workers(undo)
                await self._start_target(undo)
                await self._load_and_break(undo)
            self._say("judging")
            merge_histograms(self.run)
            verdict = await asyncio.to_thread(judge_and_store, self.run, self.request.baseline)
            last_stage = "done"
            return verdict
        finally:
            watcher.cancel()
            self._say(last_stage)
            forget_tokens(self.run.path)

    def _say(self, stage: str) -> None:
        self.progress.stage = stage
        self.observe(self.progress)

    async def _watch(self) -> None:
        while True:
            self.observe(self.progress)
            await asyncio.sleep(POLL_S)

    def _prepare(self) -> None:
        """Stages 1 and 2."""
        if self.request.plans_faults and (reason := self._switch.reason):
            raise UnavailableError(f"faults are forbidden: {reason}; allow them again: feedstorm faults allow")
        self._say("making the population")
        stages.heal_older_runs(self.run.path.parent)
        stages.link_latest(self.run.path)
        spec = self.request.scenario.population
        self.population = make_population(spec, self.request.scenario.seed)
        self.scenario = stages.keep_trace(self.run, resolved(self.request.scenario, self.population))
        self.progress.slos = parse_expectations(self.scenario.expect).slos
        stages.write_request(self.run, self.request, self.scenario)
        write_population(self.population, self.scenario.population, self.scenario.seed, self.run.population)

    async def _meet_workers(self, undo: AsyncExitStack) -> None:
        """Workers of other machines join before the target is started."""
        request = self.request
        if request.meeting is None:
            return
        taking = await undo.enter_async_context(master(request.meeting))
        await taking.wait(self._say)
        self.machines = taking.machines
        processes = request.workers + sum(machine.processes for machine in self.machines)
        if problems := workers_problems("--workers of all machines", processes, self.scenario.population.panel):
            raise UsageError(problems)

    async def _start_target(self, undo: AsyncExitStack) -> None:
        """Stage 3, and what can only be checked now."""
        self._say("starting the target")
        request, users = self.request, self.population.users
        if (resolved := request.running) is None:
            up = target_up(request.profile, self.run, users, request.defects, request.flags)
            resolved = await undo.enter_async_context(up)
        self.profile = with_token_files(resolved, self.run.path)
        require_loopback(self.profile, request.allow_hosts)
        stages.write_profile(self.run, self.profile)
        self.phases = self._planned() if self.request.has_handles else self.request.phases
        if not request.is_populated and self.scenario.population.joined == "all":
            self._say("signing users up, following")
            await stages.create_population(self.profile, self.population)

    def _planned(self) -> tuple[Phase, ...]:
        """The phases with all their faults, for the handles that are really there.

        Raises UnavailableError when a part is missing.
        """
        request, handles = self.request, self.profile.handles
        problems = fault_problems(self.scenario, request.phases, handles, request.allow_hosts)
        if problems and self.profile.missing:
            lacking = ", ".join(self.profile.missing)
            raise UnavailableError(
                f"scenario {self.scenario.name} needs {lacking}, missing on this machine; see `feedstorm doctor`"
            )
        if problems:
            raise UsageError(problems)
        if self.scenario.chaos is None:
            return request.phases
        fatal, seed = self.profile.fatal_together, self.scenario.seed
        return with_random_faults(
            self.scenario.chaos, request.phases, handles, fatal, seed, allow_hosts=request.allow_hosts
        )

    async def _load_and_break(self, undo: AsyncExitStack) -> None:
        """Stages 4 to 7."""
        self._say("signing users in")
        regions = plan_regions(self.profile)
        tokens_file, plan_file = self.run.path / "tokens.json", self.run.path / "plan.json"
        identity = self.profile.users.identity
        plan = make_plan(self.scenario, self.population, regions, self.run, tokens_file, identity)
        if self.profile.capabilities.stream == "none":
            plan = msgspec.structs.replace(plan, listeners=())
        self.plan = self.progress.plan = plan = load_asked(plan, self.profile)
        self.tokens = await obtain_tokens(plan)
        write_tokens(tokens_file, self.tokens)
        write_token_files(self.profile, self.run.path, plan, self.tokens)
        write_plan(plan_file, plan)
        await undo.enter_async_context(null_probe(self.run, peak_per_s(plan.rates.reads_per_s)))
        self._say("opening streams")
        started = load_processes(self.run, plan_file, workers=self.request.workers, helpers=self.machines)
        load = await undo.enter_async_context(started)
        self.progress.load = load
        if plan.listeners:
            await load.open_streams(len(plan.listeners), plan.listening.open_per_s)
        await self._phases(undo, load)
        self._say("draining")
        await self._drain(load)
        await load.collect("locust")
        self._say("final reads")
        await self._final_reads()
        self._say("collecting")
        await load.finish()
        self._note_lost(load)

    async def _phases(self, undo: AsyncExitStack, load: LoadProcesses) -> None:
        """Stage 5: the timeline is fixed; what runs late does not move it. It may end before its time."""
        runner = await self._fault_runner(undo)
        t0_ns = now_ns() + round((LEAD_S + self.scenario.warmup_s) * NS_PER_S)
        faults = due_faults(self.phases, t0_ns, self.profile.handles)
        stages.write_phases(self.run, self.plan.phases, t0_ns, faults)
        conditions = parse_stop(self.scenario.stop, self.profile.regions)
        switch = self._switch if faults else None
        watch = StopWatch(conditions, load, self.ending, switch, self.plan.phases, t0_ns)
        load.start(t0_ns)
        self.progress.t0_ns = t0_ns
        self._say("running")
        async with asyncio.TaskGroup() as group:
            looking = [
                group.create_task(watch.run(t0_ns + round(self.scenario.stop.delay_s * NS_PER_S))),
                group.create_task(self.by_hand.follow()),
                group.create_task(self._announce(undo, t0_ns)),
            ]
            playing = [
                group.create_task(stages.scrape_phases(self.run, self.profile, self.scenario.phases, t0_ns)),
                group.create_task(self._faults(runner, faults)),
            ]
            await self.ending.wait_until(t0_ns + self.plan.end_ns)
            if self.ending.is_early:
                await self._end_early(runner, load, t0_ns, playing)
            for task in looking:
                task.cancel()
        watch.report(self.run, by_operator=self.request.is_game_day)
        await self._take_by_hand(t0_ns, faults)

    async def _announce(self, undo: AsyncExitStack, t0_ns: int) -> None:
        """From the first phase on the run takes faults of `feedstorm faults inject`."""
        await asyncio.sleep(max(0.0, (t0_ns - now_ns()) / NS_PER_S))
        undo.callback(self.run.live.unlink, missing_ok=True)
        announce(self.run, is_game_day=self.request.is_game_day)

    async def _end_early(
        self, runner: FaultRunner, load: LoadProcesses, t0_ns: int, playing: Sequence[asyncio.Task[None]]
    ) -> None:
        """Undo everything first; then the load and the timeline end where they are."""
        self._say("undoing all faults")
        self.run.live.unlink(missing_ok=True)
        end_ns = max(1, self.ending.at_ns - t0_ns)
        load.cut(end_ns)
        runner.stop(self.ending.reason)
        await asyncio.gather(asyncio.to_thread(runner.undo_all), asyncio.to_thread(self.by_hand.undo_all))
        for task in playing:
            task.cancel()
        played = [phase for phase in self.plan.phases if phase.start_ns < end_ns]
        await scrape(self.profile, played[-1].name, "end", self.run.path / "scrapes.jsonl")
        ended = (*played[:-1], msgspec.structs.replace(played[-1], end_ns=min(end_ns, played[-1].end_ns)))
        self.plan = self.progress.plan = msgspec.structs.replace(self.plan, phases=ended)

    async def _take_by_hand(self, t0_ns: int, faults: list[DueFault]) -> None:
        """Undo what was injected by hand, and write it down beside what was planned."""
        self.run.live.unlink(missing_ok=True)
        await asyncio.to_thread(self.by_hand.undo_all)
        due = [fault for fault in faults if fault.due_ns < t0_ns + self.plan.end_ns]
        if self.request.is_game_day:
            phases, by_hand = game_day_phases(self.by_hand.injected, self.plan.phases, t0_ns)
        else:
            phases, by_hand = self.plan.phases, stages.in_phases(self.by_hand.injected, self.plan.phases, t0_ns)
        stages.write_phases(self.run, phases, t0_ns, [*due, *by_hand])
        stages.add_faults(self.run, by_hand)

    @property
    def _switch(self) -> Switch:
        """Forbids faults in all runs of the folder."""
        return Switch(self.run.path.parent)

    async def _fault_runner(self, undo: AsyncExitStack) -> FaultRunner:
        """Ready to inject at once, when there is anything to inject."""
        runner = FaultRunner(self.profile.handles, self.run.ledger, self.run.faults, self._switch)
        undo.callback(runner.audit)
        undo.callback(runner.undo_all)
        undo.callback(self.by_hand.undo_all)
        self.progress.faults = runner
        if self.request.is_game_day or any(phase.faults for phase in self.phases):
            await asyncio.to_thread(runner.prepare)
        return runner

    async def _faults(self, runner: FaultRunner, faults: list[DueFault]) -> None:
        if faults:
            await runner.run(faults)

    async def _drain(self, load: LoadProcesses) -> None:
        """Stage 6: load has stopped; wait until no event has come for a while."""
        deadline = now_ns() + round(DRAIN_LIMIT_S * NS_PER_S)
        locust = [m for m in load.members if m.kind == "locust"]
        quiet_since, events = now_ns(), -1
        while now_ns() < deadline:
            if load.total("events") != events or any(m.state == "running" for m in locust):
                quiet_since, events = now_ns(), load.total("events")
            elif now_ns() - quiet_since > DRAIN_QUIET_S * NS_PER_S:
                return
            await asyncio.sleep(POLL_S)

    async def _final_reads(self) -> None:
        """Stage 6: followers look for every acknowledged post."""
        written = await asyncio.to_thread(read_written, self.run)
        users, arrivals = self.population.users, None
        allowed = np.setdiff1d(np.arange(users), np.asarray(self.population.late, dtype=np.int64))
        if self.scenario.population.joined == "none":
            allowed = np.array(sorted(written.joined), dtype=np.int64)
            arrivals = Arrivals.of(users, written.settled, written.first_ns, written.last_ns)
        readers = final_readers(self.population, written.posts, allowed, arrivals)
        with HistoryWriter(self.run.history / f"final{SUFFIX}") as history:
            reader = FinalReader(self.profile, self.tokens, history, self.scenario.seed)
            await reader.run(readers, written.first_ts_us, self._settled_ns(written))

    def _settled_ns(self, written: Written) -> int:
        """When all regions must agree: the slowest promise after the last acknowledgement, T after the last fault."""
        slo = self.profile.slo
        patience_s = slo.cross_region_s + (slo.celebrity_s if self.scenario.population.all_celebrities else 0)
        rows = [*(self.progress.faults.rows if self.progress.faults else ()), *self.by_hand.rows]
        undone = [row.undone_ns for row in rows if row.undone_ns]
        healed_ns = max(undone, default=0) + (round(slo.convergence_s * NS_PER_S) if undone else 0)
        return max(written.last_ack_ns + round(patience_s * NS_PER_S), healed_ns)

    def _note_lost(self, load: LoadProcesses) -> None:
        """A load process that was lost or hangs says nothing of itself: say it for it: the verdict cannot pass."""
        for name in load.unfinished:
            stages.note_lost(self.run, name)
