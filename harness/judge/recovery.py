"""19. Recovery: how long after the undo of a fault service is back to normal.

A window of one second, by the due time of its ops, is normal when no feed read and no post failed, the thresholds on
times of feed_read and post_to_event hold (the scenario's, see `chosen_slos`), there was something to measure, and
no region is silent: one that had reads (or events) in at least 80 % of the baseline's windows has some in this one. A
percentile of few samples is the highest of them: a window is judged more strictly than its phase. Service has
recovered at the start of the first of 3 normal windows in a row; windows are counted from the undo. When another fault
strikes before that, or is still active, recovery is measured after the later one. A fault without a witness has nothing
to recover from that is known: its check never passes. A recovery that is too late by no more than the machine explains
is inconclusive (`harness.judge.noise`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import msgspec

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.verdict import Check, CheckKind, Outcome
from harness.judge.case import FOREVER_NS, Fault, Phase
from harness.judge.case import Window as Stretch
from harness.judge.delays import Delay
from harness.judge.expressions import Slo, parse_slos
from harness.judge.invariants.witness import without_witness
from harness.judge.noise import excused, explained_ns
from harness.judge.slos import aggregate
from harness.judge.trial import Trial, doubted

WINDOW_NS = NS_PER_S
IN_A_ROW = 3
STALLED_NS = NS_PER_S // 2
"""how long a process must stand in line to excuse whatever failed in a window"""
USUAL = {
    "feed_read": ("feed_read", "p(99) <= 500ms"),
    "post_to_event": ("post_to_event{author:ordinary}", "p(95) <= 500ms"),
}
"""metric -> selector and threshold of a window, for a scenario that names none"""
REGULAR_SHARE = 0.8
"""share of the baseline's windows that must have traffic before its absence means anything"""
READS = "feed_read"
NAMES = {"feed_read": "reads", "post_to_event": "events"}

Traffic = tuple[str, str]
"""(metric, region)"""


@dataclass(frozen=True)
class Window:
    """What was due in one second."""

    reads: int = 0
    failed: int = 0
    events: int = 0
    posts_failed: int = 0
    silent: tuple[str, ...] = ()
    """what the baseline had all the time and this second lacks, in words"""
    missed: tuple[str, ...] = ()
    """thresholds that do not hold, with what was measured"""

    @property
    def normal(self) -> bool:
        """Whether service was normal in this second."""
        return (
            self.reads + self.events > 0
            and self.failed == 0
            and self.posts_failed == 0
            and not self.silent
            and not self.missed
        )

    def trouble(self) -> str:
        """Why the window is not normal."""
        if not self.reads + self.events:
            return "nothing was measured"
        problems = [f"no {what}" for what in self.silent]
        if self.posts_failed:
            problems.append(f"{self.posts_failed} posts failed")
        if self.failed:
            problems.append(f"{self.failed} of {self.reads} reads failed")
        return ", ".join([*problems, *self.missed])


def chosen_slos(slos: Sequence[Slo], phases: Sequence[Phase]) -> tuple[Slo, ...]:
    """What windows must meet: the thresholds on times of feed_read and post_to_event that bind when all is well.

    For each selector: those that name no phase, else those of the baseline. A metric without any has its usual one.
    """
    baseline = {"baseline", *(p.name for p in phases if p.kind == "baseline")}
    found: list[Slo] = []
    for metric, (selector, threshold) in USUAL.items():
        timed = [t for slo in slos if slo.metric == metric and (t := _of_times(slo)).thresholds]
        general = [slo for slo in timed if "phase" not in slo.tags]
        known = {slo.selector for slo in general}
        at_rest = [slo for slo in timed if slo.tags.get("phase") in baseline and slo.selector not in known]
        found += [*general, *at_rest] or parse_slos("recovery", {selector: (threshold,)}, {})[0]
    return tuple(found)


def _of_times(slo: Slo) -> Slo:
    return msgspec.structs.replace(slo, thresholds=tuple(t for t in slo.thresholds if t.unit == "ns"))


def recovered_after(windows: Sequence[Window]) -> int | None:
    """Number of windows before the first IN_A_ROW normal ones; None when there are none."""
    for first in range(len(windows) - IN_A_ROW + 1):
        if all(w.normal for w in windows[first : first + IN_A_ROW]):
            return first
    return None


def judge_recovery(trial: Trial, bound_s: float, slos: Sequence[Slo] = ()) -> Iterator[Check]:
    """One check a fault; one that is skipped when there was none. `slos`: all that the scenario expects."""
    if not trial.case.faults:
        yield Check(
            name="recovery",
            kind=CheckKind.RECOVERY,
            verdict=Outcome.INCONCLUSIVE,
            skipped=True,
            reason="skipped: no fault was injected",
        )
    for fault in trial.case.faults:
        check = _judge_fault(trial, fault, bound_s, chosen_slos(slos, trial.case.phases))
        yield doubted(check, without_witness(fault))


def _judge_fault(trial: Trial, fault: Fault, bound_s: float, slos: Sequence[Slo]) -> Check:
    check = Check(
        name=f"recovery from {fault.kind} of {fault.handle}",
        kind=CheckKind.RECOVERY,
        verdict=Outcome.INCONCLUSIVE,
        phase=fault.phase,
        bound=bound_s,
        unit="s",
    )
    if fault.injected_ns is None:
        return check
    if fault.undone_ns is None:
        check.reason = "the fault was not undone"
        return check
    windows = _windows(trial, fault.undone_ns, slos)
    first = recovered_after(windows)
    later = _interrupted_by(trial.case.faults, fault, first)
    if later is not None:
        check.skipped = True
        check.reason = f"skipped: measured after {later.kind} of {later.handle}, which came before service was normal"
        return check
    check.observations = len(windows)
    if first is not None:
        check.value = first * WINDOW_NS / NS_PER_S
        check.verdict = Outcome.PASS if check.value <= bound_s else Outcome.FAIL
        check.reason = f"normal from {check.value:g} s after the undo at {trial.case.at(fault.undone_ns)}"
    elif len(windows) - IN_A_ROW >= bound_s:
        check.verdict = Outcome.FAIL
        check.reason = f"not normal for {IN_A_ROW} s in a row within {len(windows)} s after the undo"
    else:
        check.reason = f"load ended {len(windows)} s after the undo, too early to tell"
    check.evidence = [
        f"{trial.case.at(fault.undone_ns + k * WINDOW_NS)}: {w.trouble()}"
        for k, w in enumerate(windows[: first if first is not None else len(windows)])
        if not w.normal
    ][:20]
    return _weigh_noise(trial, fault.undone_ns, windows, slos, check)


def _weigh_noise(trial: Trial, undone_ns: int, windows: Sequence[Window], slos: Sequence[Slo], check: Check) -> Check:
    """Recovery that is too late by no more than the machine explains is inconclusive.

    Times count as far as it does not explain them. A window without a time that is too long then is left out when a
    process stood in line for half a second or more, whatever failed in it (a starved target refuses as well; that is
    judged by the thresholds on failures). From others what a process stood in line is taken off, which work in one
    thread lost.
    """
    span = Stretch(undone_ns, undone_ns + len(windows) * WINDOW_NS)
    delays = trial.noise.explaining(span, READS)
    if check.verdict is not Outcome.FAIL or check.bound is None or not delays:
        return check
    missed = _missed(trial, slos, undone_ns, len(windows), shortened=True)
    lost_ns = [
        max((d.lost_ns for d in delays if _touches(d, undone_ns + k * WINDOW_NS)), default=0)
        for k in range(len(windows))
    ]
    quiet = [k for k in range(len(windows)) if missed[k] or lost_ns[k] < STALLED_NS]
    first = recovered_after([replace(windows[k], missed=tuple(missed[k])) for k in quiet])
    least_s = max(0, len(quiet) - IN_A_ROW) if first is None else first
    lost_s = sum(lost_ns[k] for k in quiet[:least_s] if not missed[k]) / NS_PER_S
    late_s = least_s - lost_s - check.bound
    if late_s > 0 or (first is None and late_s == 0):
        return check
    without = f"{'not yet' if first is None else 'normal'} after {least_s} s, {lost_s:.1f} s of them in line"
    return excused(check, f"{trial.noise.told(span, '')}; without that: {without}")


def _touches(stretch: Delay, start_ns: int) -> bool:
    """Whether a stretch touches the window that begins there."""
    return start_ns < stretch.end_ns and start_ns + WINDOW_NS > stretch.start_ns


def _interrupted_by(faults: Sequence[Fault], fault: Fault, first: int | None) -> Fault | None:
    """The fault that was active, or struck, between the undo of `fault` and the end of its first normal windows."""
    undone = fault.undone_ns or 0
    until = FOREVER_NS if first is None else undone + (first + IN_A_ROW) * WINDOW_NS
    for other in faults:
        if other is fault or other.injected_ns is None:
            continue
        if other.injected_ns < until and (other.undone_ns or FOREVER_NS) > undone:
            return other
    return None


_MEASURED = """
metric IN ('feed_read', 'post_accept') OR (metric = 'post_to_event' AND author = 'ordinary')
"""
_WINDOWS = f"""
SELECT (due_ns - $start) // $width AS k,
       count(*) FILTER (metric = 'feed_read'), count(*) FILTER (metric = 'feed_read' AND NOT ok),
       count(*) FILTER (metric = 'post_to_event'),
       count(*) FILTER (metric = 'post_accept' AND NOT ok)
FROM sample WHERE due_ns >= $start AND due_ns < $until AND ({_MEASURED})
GROUP BY 1
"""
_HEARD = f"""
SELECT DISTINCT (due_ns - $start) // $width AS k, metric, region
FROM sample WHERE due_ns >= $start AND due_ns < $until AND metric <> 'post_accept' AND ({_MEASURED})
"""


def _windows(trial: Trial, undone_ns: int, slos: Sequence[Slo]) -> list[Window]:
    """The whole windows from the undo to the end of the last phase."""
    count = max(0, trial.case.end_ns - undone_ns) // WINDOW_NS
    measured = {int(k): row for k, *row in trial.rows(_WINDOWS, **_span(undone_ns, count))}
    regular = _regular(trial)
    silent = [
        tuple(f"{NAMES[metric]} in {region}" for metric, region in sorted(regular - heard))
        for heard in _heard(trial, undone_ns, count)
    ]
    missed = _missed(trial, slos, undone_ns, count)
    return [replace(Window(*measured.get(k, ())), silent=silent[k], missed=tuple(missed[k])) for k in range(count)]


def _missed(
    trial: Trial, slos: Sequence[Slo], start_ns: int, count: int, *, shortened: bool = False
) -> list[list[str]]:
    """The thresholds that do not hold in each of `count` windows from `start_ns` on, in words.

    `shortened`: each time is shortened by what the machine explains of it.
    """
    span = Stretch(start_ns, start_ns + count * WINDOW_NS)
    missed: list[list[str]] = [[] for _ in range(count)]
    for slo in slos:
        tags = {name: value for name, value in slo.tags.items() if name != "phase"}
        where = "".join(f" AND {name} = ${name}" for name in tags)
        explaining = trial.noise.explaining(span, slo.metric) if shortened else ()
        value_ns = f"greatest(0, value_ns - {explained_ns(explaining, 'due_ns', '(due_ns + value_ns)')}) AS value_ns"
        for threshold in slo.thresholds:
            rows = trial.rows(
                f"""SELECT (due_ns - $start) // $width AS k, {aggregate(threshold)}
                    FROM (SELECT * REPLACE ({value_ns}) FROM sample
                          WHERE metric = $metric AND due_ns >= $start AND due_ns < $until{where})
                    GROUP BY 1 ORDER BY 1""",
                metric=slo.metric,
                **tags,
                **_span(start_ns, count),
            )
            for k, value in rows:
                if value is not None and not threshold.holds(value):
                    missed[int(k)].append(f"{slo.selector} {threshold.text}: {value / NS_PER_MS:.0f} ms")
    return missed


def _span(start_ns: int, count: int) -> dict[str, int]:
    return {"start": start_ns, "until": start_ns + count * WINDOW_NS, "width": WINDOW_NS}


def _heard(trial: Trial, start_ns: int, count: int) -> list[set[Traffic]]:
    """The traffic of each of `count` windows from `start_ns` on."""
    heard: list[set[Traffic]] = [set() for _ in range(count)]
    for k, metric, region in trial.rows(_HEARD, **_span(start_ns, count)):
        heard[int(k)].add((metric, region))
    return heard


def _regular(trial: Trial) -> set[Traffic]:
    """The traffic that nearly all windows of the baseline have."""
    heard: list[set[Traffic]] = []
    for phase in trial.case.phases:
        if phase.kind == "baseline":
            heard += _heard(trial, phase.start_ns, (phase.end_ns - phase.start_ns) // WINDOW_NS)
    times = Counter(traffic for there in heard for traffic in there)
    return {traffic for traffic, n in times.items() if n >= REGULAR_SHARE * len(heard)}
