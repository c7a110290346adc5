"""Takes each finished op of a load process to the history, the histograms and the running counts.

Works under gevent and asyncio; whoever owns the process calls `tick` once a second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core.clock import NS_PER_MS, NS_PER_S, now_ns
from harness.core.op import OP_METRICS, Op, OpKind, OpOutcome
from harness.load.plan import LoadPlan
from harness.record.histograms import Histograms
from harness.record.history import HistoryWriter, Shown

RECENT_S = 5
"""what is shown of a run under way covers this many seconds"""
MOST_SAMPLES = 2_000
"""latencies of one kind and region in a status line"""
MOST_IN_ALL = 40_000
"""latencies in a status line: with those of 100 s, 8 digits in µs, they take 360 KB of the line's 1 MiB"""


class OpCounts:
    """Running counts of one kind of op."""

    def __init__(self) -> None:
        self.count = 0
        self.failed = 0


class Recent:
    """What ended within the last RECENT_S seconds, since load began: latencies in ns, and failures, by kind, region."""

    def __init__(self, from_ns: int = 0) -> None:
        """`from_ns`: when load begins; until then no time passes here."""
        self._from_ns = from_ns
        self._seconds: deque[_Second] = deque([_Second()], maxlen=RECENT_S + 1)

    def add(self, op: Op) -> None:
        """Count a finished op."""
        ended = self._seconds[-1].ended
        here = ended.get((op.kind, op.region))
        if here is None:
            here = ended[op.kind, op.region] = _Ended()
        if op.outcome is OpOutcome.OK:
            here.latencies_ns.append(op.done_ns - op.due_ns)
        else:
            here.failed += 1

    def tick(self) -> None:
        """Once a second."""
        self._seconds.append(_Second())

    def latencies_ns(self, kind: str) -> list[int]:
        """Of successful ops of the kind, all regions together."""
        every = (ended for second in self._seconds for (k, _), ended in second.ended.items() if k == kind)
        return [ns for ended in every for ns in ended.latencies_ns]

    def status(self) -> dict[str, Any]:
        """As it appears in the status line: the ops that SLOs speak of, by kind and region; latencies ascending, in µs.

        Of more than MOST_SAMPLES, or their share of MOST_IN_ALL, every second, third, ... latency is sent, the slowest
        always.
        """
        ops: dict[str, dict[str, dict[str, Any]]] = {}
        ended_here = {key for second in self._seconds for key in second.ended if key[0] in OP_METRICS}
        most = min(MOST_SAMPLES, max(1, MOST_IN_ALL // max(1, len(ended_here))))
        for kind, region in ended_here:
            found = [s.ended[kind, region] for s in self._seconds if (kind, region) in s.ended]
            us = sorted(ns // 1000 for ended in found for ns in ended.latencies_ns)
            step = -(-len(us) // most) or 1
            failed = sum(ended.failed for ended in found)
            ops.setdefault(kind, {})[region] = {"ok": len(us), "failed": failed, "us": us[::-step][::-1]}
        start_ns = max(self._from_ns, self._seconds[0].start_ns)
        return {"seconds": max(0, now_ns() - start_ns) / NS_PER_S, "ops": ops}


class _Ended:
    """Ops of one kind and region that ended in one second."""

    __slots__ = ("failed", "latencies_ns")

    def __init__(self) -> None:
        self.latencies_ns: list[int] = []
        self.failed = 0


class _Second:
    """One second."""

    def __init__(self) -> None:
        self.start_ns = now_ns()
        self.ended: dict[tuple[str, str], _Ended] = {}


class Recorder:
    """History, histograms and counts of one load process."""

    def __init__(self, plan: LoadPlan, name: str) -> None:
        run = plan.directory
        self.history = HistoryWriter(run.history / f"{name}.jsonl")
        self.histograms = Histograms()
        self.outcomes = dict.fromkeys(OpOutcome, 0)
        self._log = run.histograms / f"{name}.hlog"
        self._begin_ns = plan.phases[0].start_ns
        self._ends = [phase.end_ns for phase in plan.phases]
        self._names = [phase.name for phase in plan.phases]
        self._t0_ns = 0
        self._counts: dict[str, OpCounts] = {}
        self._recent = Recent()

    def start(self, t0_ns: int) -> None:
        """Fix time zero; ops are put into phases by their due time. What is recent begins with the first phase."""
        self._t0_ns = t0_ns
        self._recent = Recent(t0_ns + self._begin_ns)

    def phase(self, time_ns: int) -> str:
        """Name of the phase at a monotonic time."""
        return self._names[min(bisect_right(self._ends, time_ns - self._t0_ns), len(self._names) - 1)]

    def record(self, op: Op, shown: Sequence[Shown] = ()) -> None:
        """Count and store one finished op, with what its answer showed unless the op's own lists say it.

        Latency counts from the due time; failed ops have none.
        """
        self.history.append(op, shown)
        self.outcomes[op.outcome] += 1
        counts = self._counts.setdefault(op.kind, OpCounts())
        counts.count += 1
        self._recent.add(op)
        if op.outcome is OpOutcome.OK:
            self.measure(op.kind, op.region, op.due_ns, op.done_ns)
        elif op.kind is not OpKind.PROBE:  # which wants to be refused
            counts.failed += 1

    def measure(self, name: str, region: str, due_ns: int, done_ns: int) -> None:
        """Put a latency into the histogram of its phase, without a row."""
        self.histograms.record(name, region, self.phase(due_ns), done_ns - due_ns)

    def ops_status(self) -> dict[str, Any]:
        """{kind: counts so far, and the p99 of the last seconds (0 when nothing ended)} for the status line."""
        return {kind: self._op_status(kind, counts) for kind, counts in self._counts.items()}

    def _op_status(self, kind: str, counts: OpCounts) -> dict[str, Any]:
        latencies = self._recent.latencies_ns(kind)
        p99_ms = sorted(latencies)[len(latencies) * 99 // 100] / NS_PER_MS if latencies else 0.0
        return {"count": counts.count, "failed": counts.failed, "p99_ms": round(p99_ms, 2)}

    def recent_status(self) -> dict[str, Any]:
        """The last seconds in detail, for the status line."""
        return self._recent.status()

    def tick(self) -> None:
        """Once a second: flush the history, move the window of what is recent."""
        self.history.flush_if_due()
        self._recent.tick()

    def close(self) -> Path:
        """Write everything. Returns the path of the histogram log."""
        self.history.close()
        self.histograms.save(self._log)
        return self._log
