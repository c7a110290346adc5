"""All that a report shows, read from a run directory. Only the verdict must be there; what is missing is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.core.clock import NS_PER_S
from harness.core.errors import UsageError
from harness.core.json_file import read_json
from harness.core.verdict import Verdict
from harness.judge.case import Fault, LoadReport, as_it_acted
from harness.judge.machine import echoes_per_line
from harness.judge.staleness import StalenessCurve
from harness.record.manifest import Manifest
from harness.record.noise_file import NoiseRow
from harness.record.run_directory import RunDirectory

T = TypeVar("T")
Rows = list[list[float | None]]


class PhaseWindow(msgspec.Struct, kw_only=True):
    """A phase in seconds since the first phase began (the warm-up is before 0)."""

    name: str
    kind: str
    start_s: float
    end_s: float


class FaultWindow(msgspec.Struct, kw_only=True):
    """A fault with its actual times, in seconds since the first phase began."""

    id: str
    kind: str
    handle: str
    phase: str
    colour: str
    due_s: float | None
    start_s: float | None
    end_s: float | None
    witnessed_s: float | None
    witness_ok: bool
    witness: str
    undo_ok: bool
    undo: str
    params: dict[str, Any]


class Curve(msgspec.Struct):
    """A merged histogram of one op, region and phase."""

    count: int = 0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    curve: list[tuple[float, float]] = []


class _Series(msgspec.Struct, kw_only=True):
    t0_ns: int = 0
    per_second: dict[str, dict[str, Rows]] = {}
    percentiles: dict[str, list[tuple[float, float]]] = {}
    staleness: list[StalenessCurve] = []


class _Phase(msgspec.Struct, kw_only=True):
    name: str
    start_ns: int
    end_ns: int
    kind: str = ""


class _Scenario(msgspec.Struct, kw_only=True):
    about: str = ""


class RunData(msgspec.Struct, kw_only=True):
    """One run, ready to be shown."""

    name: str
    path: str
    """as one would type it here"""
    verdict: Verdict
    about: str
    manifest: Manifest
    phases: list[PhaseWindow]
    faults: list[FaultWindow]
    load: list[LoadReport]
    per_second: dict[str, dict[str, Rows]]
    """metric -> series -> rows [second, p50, p95 or p99, max, count, failed]; milliseconds"""
    machine: Rows
    """what the machine alone took: rows [second, p50, p99, max, count]; milliseconds"""
    percentiles: dict[str, list[tuple[float, float]]]
    """ "metric|scope|author|phase" -> [(percentile, ms)] """
    staleness: list[StalenessCurve]
    """how likely a post was visible, by its age"""
    histograms: dict[str, Curve]
    """ "op|region|phase" -> merged histogram """

    @property
    def length_s(self) -> float:
        """Length of the phases, warm-up not included."""
        return max((p.end_s for p in self.phases), default=0.0)


def read_run(run: RunDirectory) -> RunData:
    """Read a judged run. Raises UsageError when its verdict is missing or a file is not what it should be."""
    verdict = _read(run.verdict, Verdict)
    if verdict is None:
        raise UsageError(f"{run.path}: has no verdict.json")
    series = _read(run.series, _Series) or _Series()
    phases = _read(run.phases, list[_Phase]) or []
    t0_ns = series.t0_ns or min((p.start_ns for p in phases if not _is_warmup(p)), default=0)
    scenario = _read(run.scenario, _Scenario)
    return RunData(
        name=run.path.resolve().name,
        path=_typed(run.path.resolve()),
        verdict=verdict,
        about=scenario.about if scenario else "",
        manifest=_read(run.manifest, Manifest) or Manifest(),
        phases=[_phase(p, t0_ns) for p in phases],
        faults=[_fault(as_it_acted(f), t0_ns) for f in _read_lines(run.faults, Fault)],
        load=_read_lines(run.generator, LoadReport),
        per_second=series.per_second,
        machine=echoes_per_line(_read_lines(run.noise, NoiseRow), t0_ns),
        percentiles=series.percentiles,
        staleness=series.staleness,
        histograms=_read(run.histograms / "merged.json", dict[str, Curve]) or {},
    )


def _typed(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _is_warmup(phase: _Phase) -> bool:
    return "warmup" in (phase.kind, phase.name)


def _phase(phase: _Phase, t0_ns: int) -> PhaseWindow:
    kind = phase.kind or ("warmup" if _is_warmup(phase) else "")
    start_s, end_s = (phase.start_ns - t0_ns) / NS_PER_S, (phase.end_ns - t0_ns) / NS_PER_S
    return PhaseWindow(name=phase.name, kind=kind, start_s=start_s, end_s=end_s)


def _fault(fault: Fault, t0_ns: int) -> FaultWindow:
    def seconds(at_ns: int | None) -> float | None:
        return None if at_ns is None else (at_ns - t0_ns) / NS_PER_S

    return FaultWindow(
        id=fault.id,
        kind=fault.kind,
        handle=fault.handle,
        phase=fault.phase,
        colour=fault.colour,
        due_s=seconds(fault.due_ns),
        start_s=seconds(fault.injected_ns),
        end_s=seconds(fault.undone_ns),
        witnessed_s=seconds(fault.witnessed_ns),
        witness_ok=bool(fault.witness.get("ok")),
        witness=str(fault.witness.get("evidence", "")),
        undo_ok=bool(fault.undo.get("ok")),
        undo=str(fault.undo.get("detail", "")),
        params=fault.params,
    )


def _read(path: Path, kind: type[T]) -> T | None:
    """A JSON file as `kind`; None when it is not there. Raises UsageError."""
    return read_json(path, kind) if path.exists() else None


def _read_lines(path: Path, kind: type[T]) -> list[T]:
    """A file of JSON lines; lines that are torn or of another shape are left out."""
    rows: list[T] = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            rows.append(msgspec.json.decode(line, type=kind))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return rows
