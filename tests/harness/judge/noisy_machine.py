"""A machine in virtual time: processes that now and then lose their processor, and posts that go through all of them.

What a process does is worked off in the order of its coming, while it has a processor. So each answer is known with
and without the machine's noise, as are the lines that the null probe would have written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.core.clock import NS_PER_S
from harness.record.noise_file import MainThread, NoiseRow

LONG_S = 1e9


class Availability:
    """When a process may run: stretches in which it has a processor, and others, in turns."""

    def __init__(self, on_s, off_s):
        """Lengths of both, alternating from 0 s on; afterwards it may always run."""
        at = np.concatenate([[0.0], np.cumsum(np.stack([on_s, off_s], axis=1).ravel())])
        had = np.repeat(np.concatenate([[0.0], np.cumsum(on_s)]), 2)[1:]
        self.at, self.had = np.append(at, at[-1] + LONG_S), np.append(had, had[-1] + LONG_S)
        self.starts = at[2::2]

    def run_s(self, until_s):
        """Processor time it could have had by then."""
        return np.interp(until_s, self.at, self.had)

    def when(self, had_s):
        """The first moment by which it could have had that much."""
        k = int(np.searchsorted(self.had, had_s, side="left"))
        if k == 0:
            return 0.0
        return self.at[k] - (self.had[k] - had_s)


@dataclass
class Process:
    """What a process did: arrivals, and when each was done."""

    begins: list[float]
    ends: list[float]


def passed(availability, arrivals, work_s):
    """The process that took these in, one after the other."""
    ends, last = [], 0.0
    for at, work in zip(arrivals, work_s, strict=True):
        begin = max(at, last)
        last = max(begin, availability.when(float(availability.run_s(begin)) + work))
        ends.append(last)
    return Process(list(arrivals), ends)


def busy_stretches(process):
    """From each moment at which it had something to do to the one at which it was done with all."""
    found = []
    for begin, end in zip(process.begins, process.ends, strict=True):
        if found and begin <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([begin, end])
    return found


def thread(pid, process, availability, start_s):
    """What the kernel would have counted of it in the second from `start_s` on."""
    ran = waited = 0.0
    turns = 0
    for begin, end in busy_stretches(process):
        a, b = max(begin, start_s), min(end, start_s + 1)
        if a >= b:
            continue
        had = float(availability.run_s(b) - availability.run_s(a))
        ran += had
        waited += b - a - had
        turns += int(begin >= start_s) + int(np.sum((availability.starts > a) & (availability.starts < b)))
    return MainThread(pid, round(1e6 * ran), round(1e6 * waited), turns)


def lines(processes, availabilities, seconds, *, t0_ns, outside=0.9):
    """noise.jsonl of it."""
    return [
        NoiseRow(
            start_ns=t0_ns + k * NS_PER_S,
            end_ns=t0_ns + (k + 1) * NS_PER_S,
            outside=outside,
            own=0.1,
            processors=2,
            processes=[thread(p, *both, k) for p, both in enumerate(zip(processes, availabilities, strict=True))],
        )
        for k in range(seconds)
    ]


def chain(random, *, hops, seconds, per_s, work_s, on_s, off_s):
    """Posts that go through `hops` processes: (arrivals, answers, answers without noise, lines from 0 s on)."""
    arrivals = np.sort(random.uniform(0, seconds, round(per_s * seconds)))
    free = Availability([LONG_S], [0.0])
    noisy, calm = arrivals, arrivals
    processes, availabilities = [], []
    for _ in range(hops):
        count = round(4 * seconds / (on_s + off_s))
        lost = Availability(random.exponential(on_s, count), random.exponential(off_s, count))
        work = random.exponential(work_s, len(arrivals))
        processes.append(passed(lost, noisy, work))
        availabilities.append(lost)
        noisy, calm = np.asarray(processes[-1].ends), np.asarray(passed(free, calm, work).ends)
    return arrivals, noisy, calm, lines(processes, availabilities, seconds + 5, t0_ns=0)
