"""The samples of a run by metric and phase, for comparisons: from samples.parquet, which the judge leaves behind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.judge import graph, metrics, streams
from harness.judge.bootstrap import Recording
from harness.judge.case import Case, Phase
from harness.judge.expressions import Selection
from harness.judge.slos import where
from harness.judge.tables import open_tables
from harness.record.parquet import to_parquet
from harness.record.run_directory import RunDirectory

_COPY = """
COPY (SELECT metric, region, scope, author, phase, ok, value_ns, due_ns FROM sample WHERE phase <> '')
TO '{path}' (FORMAT parquet)
"""


def write_samples(con: duckdb.DuckDBPyConnection, run: RunDirectory) -> Path:
    """Leave the samples of a run beside its history. `con` has the table `sample` (`harness.judge.metrics`)."""
    draft = run.samples.with_suffix(".draft")
    con.execute(_COPY.format(path=_quoted(draft)))
    draft.replace(run.samples)
    return run.samples


def samples_of(case: Case) -> Path:
    """The samples of a run, made now when the judge has not left them, or of another history, or they are damaged.

    Raises HistoryError for a damaged history.
    """
    run = case.run
    ops = to_parquet(run)
    if run.samples.exists() and run.samples.stat().st_mtime_ns >= ops.stat().st_mtime_ns and _is_whole(run.samples):
        return run.samples
    with open_tables(case, ops) as con:
        graph.build(con, case)
        streams.build(con)
        metrics.build(con)
        return write_samples(con, run)


def _is_whole(path: Path) -> bool:
    """Whether all of it can be read."""
    with duckdb.connect(config={"threads": 2}) as con:
        try:
            con.execute(f"SELECT max(hash(columns(*))) FROM read_parquet('{_quoted(path)}')").fetchall()
        except duckdb.Error:
            return False
    return True


class Samples:
    """The samples of one run. Use it as a context manager."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._con = duckdb.connect(config={"threads": 2})
        self._con.execute("SET enable_progress_bar = false")
        self._con.execute(f"CREATE VIEW sample AS SELECT * FROM read_parquet('{_quoted(samples_of(case))}')")

    def __enter__(self) -> Samples:
        return self

    def __exit__(self, *_: object) -> None:
        self._con.close()

    @property
    def phases(self) -> dict[str, Phase]:
        """What is compared: all phases but the warm-up, by name."""
        return {phase.name: phase for phase in self._case.judged_phases}

    def kinds(self) -> list[tuple[str, str]]:
        """Every metric with samples, with each scope it has ("" for most)."""
        rows = self._con.execute("SELECT DISTINCT metric, scope FROM sample ORDER BY ALL").fetchall()
        return [(str(metric), str(scope)) for metric, scope in rows]

    def recordings(self, chosen: Iterable[Selection]) -> dict[tuple[str, str], Recording]:
        """(selector, phase) -> its samples, in milliseconds; also where there are none."""
        return {
            (selection.selector, phase.name): self._recording(selection, phase)
            for selection in chosen
            for phase in self.phases.values()
        }

    def _recording(self, selection: Selection, phase: Phase) -> Recording:
        rows, values = where(selection, phase)
        found: dict[str, Any] = self._con.execute(
            f"SELECT value_ns, due_ns, ok FROM sample WHERE {rows} ORDER BY due_ns, value_ns", values
        ).fetchnumpy()
        ok = np.asarray(found["ok"], dtype=bool)
        at_s = (np.asarray(found["due_ns"], dtype=np.float64) - phase.start_ns) / NS_PER_S
        taken = np.maximum(np.asarray(found["value_ns"], dtype=np.float64) / NS_PER_MS, 0.001)
        length_s = (phase.end_ns - phase.start_ns) / NS_PER_S
        return Recording(length_s=length_s, values=taken[ok], at_s=at_s[ok], failed_at_s=at_s[~ok])


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
