"""How much longer the machine may have made one time, second by second: a bound on what its noise explains.

A time is a chain of hops (`hops_of`): a process wakes up, does its part, wakes the next one. What the machine adds to a
hop is what the process stood in line. From a line of `noise.jsonl`, of length L, in which the main thread of process p
ran r and waited w, in n turns:

    w' = w min(1, others / siblings)        only so far as others ran, and not more of the run itself, while p waited
    s = 1 - (r + w) / L                     share in which p slept. A process that sleeps has nothing left to do
    hop(p, k) = min(w', k w' / n / s)       k turns, and what stands before one in the queue of p; never more than w'
    backlog(p) = w' + backlog(p) before     if p hardly slept (s < AWAKE): what it had not done stays; else 0
    queues = min(sum of backlog(p), time since the first of them fell behind)      they stand in series
    line = queues + max hop(p, LONGEST) + (hops - 1) mean hop(p, USUAL)            over those that slept

    echo = longest echo + (hops / 2 - 1) mean echo      an echo has two hops: what a machine that stands does to all

    longest = max(line, echo); nothing when the run made the noise itself

Both k are from busy loops beside a process that answers at random times (the longest of some hundred delays in a second
was 6 to 34 of w / n / s), and from chains of queues in virtual time (tests/harness/judge/test_delays.py), of which
hardly any is later than this says, and this no more than four times as much as the latest. What waits for a disk that
others use, or for a time-out that ran off, is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.core.clock import NS_PER_S
from harness.record.noise_file import MainThread, NoiseRow

FEW_HOPS, MANY_HOPS = 10, 20
"""of an answer; and of what goes from a client by way of fan-out to another one, who may be in another region"""
MANY = frozenset({"post_to_event", "post_to_rendered", "cross_region", "eligibility"})
"""metrics and invariants of times that have many"""
LONGEST, USUAL = 30, 2
"""turns in line that the longest hop of a second lasts, and that a hop lasts on average"""
AWAKE = 0.05
"""who sleeps less than that may have left work for the next second"""
AFTERMATH_NS = NS_PER_S
"""what piled up in queues that no process stands for is worked off within that time"""


@dataclass(frozen=True)
class Delay:
    """What the machine explains of times that touch a stretch of time: a line of the probe and its aftermath."""

    start_ns: int
    end_ns: int
    longest_ns: int
    """by how much one of these times may have become longer"""
    lost_ns: int = 0
    """how long one process of the run stood in line in it, at most: what work in one thread lost"""


@dataclass
class Queue:
    """A process that had no time to sleep."""

    since_ns: int
    behind_ns: int = 0


@dataclass
class Queues:
    """All processes that were behind at the end of the lines so far."""

    by_process: dict[int, Queue] = field(default_factory=dict)

    def add(self, row: NoiseRow, waits: Sequence[Wait]) -> int:
        """Take a line in; how late it was at its end, ns."""
        before, self.by_process = self.by_process, {}
        for wait in waits:
            if wait.slept < AWAKE:
                since_ns = row.start_ns - max(0, round(1000 * wait.thread.waited_us) - (row.end_ns - row.start_ns))
                queue = self.by_process[wait.thread.pid] = before.get(wait.thread.pid, Queue(since_ns))
                queue.behind_ns += wait.ns
        if not self.by_process:
            return 0
        longest_ns = row.end_ns - min(queue.since_ns for queue in self.by_process.values())
        return min(longest_ns, sum(queue.behind_ns for queue in self.by_process.values()))


@dataclass(frozen=True)
class Wait:
    """What others made one process wait in one line."""

    thread: MainThread
    ns: int
    slept: float
    """share of the line; below 0 when it had begun to wait before"""

    def hop_ns(self, turns: float) -> float:
        """How much later a hop is that stands in line for so many turns' worth, and for all that come before it."""
        return min(self.ns, turns * self.ns / max(1, self.thread.turns) / max(AWAKE, self.slept))


def hops_of(what: str) -> int:
    """Most hops of the times of a metric, or of those that an invariant promises."""
    return MANY_HOPS if what in MANY else FEW_HOPS


def delays(rows: Iterable[NoiseRow], provoked: Iterable[bool], hops: int) -> Iterator[Delay]:
    """One a line, in their order; `provoked`: whether the run made the noise of the line itself."""
    queues = Queues()
    for row, own in zip(rows, provoked, strict=True):
        waits = [] if own else [_wait(row, thread) for thread in row.processes]
        queued_ns = queues.add(row, waits)
        late_ns = 0.0 if own else max(queued_ns + _hops_ns(waits, hops), _echoes_ns(row, hops))
        lost_ns = min(max((wait.ns for wait in waits), default=0), row.end_ns - row.start_ns)
        yield Delay(row.start_ns, row.end_ns + AFTERMATH_NS, round(late_ns), lost_ns)


def _wait(row: NoiseRow, thread: MainThread) -> Wait:
    others = row.taken * row.processors
    siblings = row.own * row.processors - thread.ran_us / 1e6 / row.seconds
    share = 1.0 if siblings <= others else others / siblings
    slept = 1 - (thread.ran_us + thread.waited_us) / 1e6 / row.seconds
    return Wait(thread, round(1000 * thread.waited_us * share), slept)


def _hops_ns(waits: Sequence[Wait], hops: int) -> float:
    """The worst hop at a process that had time to sleep, and all others of a chain."""
    in_time = [wait for wait in waits if wait.slept >= AWAKE]
    if not in_time:
        return 0.0
    usual_ns = sum(wait.hop_ns(USUAL) for wait in in_time) / len(in_time)
    return max(wait.hop_ns(LONGEST) for wait in in_time) + (hops - 1) * usual_ns


def _echoes_ns(row: NoiseRow, hops: int) -> float:
    """What a chain would take if each two hops were an echo, one of them the longest."""
    took_us = [echo.took_us for echo in row.echoes]
    return 1000 * (max(took_us) + (hops / 2 - 1) * sum(took_us) / len(took_us)) if took_us else 0.0
