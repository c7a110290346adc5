"""Takes each finished op of a load process to the history, the histograms and the running counts.

Works under gevent and asyncio; whoever owns the process calls `tick` once a second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.clock import NS_PER_MS
from harness.core.op import Op, OpOutcome
from harness.load.plan import LoadPlan
from harness.record.histograms import Histograms
from harness.record.history import HistoryWriter

RECENT_S = 5
"""the live p99 covers this many seconds"""


class OpCounts:
    """Running counts of one kind of op."""

    def __init__(self) -> None:
        self.count = 0
        self.failed = 0
        self.recent: deque[list[int]] = deque([[]], maxlen=RECENT_S)

    def status(self) -> dict[str, Any]:
        """As it appears in the status line; p99 over the last seconds, 0 when nothing finished."""
        latencies = [latency for second in self.recent for latency in second]
        p99 = float(np.percentile(latencies, 99)) / NS_PER_MS if latencies else 0.0
        return {"count": self.count, "failed": self.failed, "p99_ms": round(p99, 2)}


class Recorder:
    """History, histograms and counts of one load process."""

    def __init__(self, plan: LoadPlan, name: str) -> None:
        run = plan.directory
        self.history = HistoryWriter(run.history / f"{name}.jsonl")
        self.histograms = Histograms()
        self.outcomes = dict.fromkeys(OpOutcome, 0)
        self._log = run.histograms / f"{name}.hlog"
        self._ends = [phase.end_ns for phase in plan.phases]
        self._names = [phase.name for phase in plan.phases]
        self._t0_ns = 0
        self._counts: dict[str, OpCounts] = {}

    def start(self, t0_ns: int) -> None:
        """Fix time zero; ops are put into phases by their due time."""
        self._t0_ns = t0_ns

    def phase(self, time_ns: int) -> str:
        """Name of the phase at a monotonic time."""
        return self._names[min(bisect_right(self._ends, time_ns - self._t0_ns), len(self._names) - 1)]

    def record(self, op: Op) -> None:
        """Count and store one finished op. Latency counts from the due time; failed ops have none."""
        self.history.append(op)
        self.outcomes[op.outcome] += 1
        counts = self._counts.setdefault(op.kind, OpCounts())
        counts.count += 1
        if op.outcome is OpOutcome.OK:
            self.measure(op.kind, op.region, op.due_ns, op.done_ns)
            counts.recent[-1].append(op.done_ns - op.due_ns)
        else:
            counts.failed += 1

    def measure(self, name: str, region: str, due_ns: int, done_ns: int) -> None:
        """Put a latency into the histogram of its phase, without a row."""
        self.histograms.record(name, region, self.phase(due_ns), done_ns - due_ns)

    def ops_status(self) -> dict[str, Any]:
        """{kind: counts} for the status line."""
        return {kind: counts.status() for kind, counts in self._counts.items()}

    def tick(self) -> None:
        """Once a second: flush the history, move the window of the live percentiles."""
        self.history.flush_if_due()
        for counts in self._counts.values():
            counts.recent.append([])

    def close(self) -> Path:
        """Write everything. Returns the path of the histogram log."""
        self.history.close()
        self.histograms.save(self._log)
        return self._log
