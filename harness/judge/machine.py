"""The machine beside the run, phase by phase, for verdict.json and reports. What it decides: `harness.judge.noise`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.core.clock import NS_PER_S
from harness.core.verdict import MachinePhase
from harness.judge.case import Case, Phase
from harness.judge.noise import Noise
from harness.record.noise_file import NoiseRow


def machine_phases(case: Case) -> list[MachinePhase]:
    """The machine in each phase; empty when it was not measured."""
    noise = Noise.of(case)
    return [machine_in(noise, phase) for phase in case.phases] if noise.rows else []


def machine_in(noise: Noise, phase: Phase) -> MachinePhase:
    """The machine in one phase: of the lines whose middle lies in it."""
    rows = [r for r in noise.rows if phase.start_ns <= (r.start_ns + r.end_ns) // 2 < phase.end_ns]
    took = sorted(echo.took_us for row in rows for echo in row.echoes)
    late = sorted(echo.late_us for row in rows for echo in row.echoes)
    return MachinePhase(
        phase=phase.name,
        kind=phase.kind,
        seconds=round(sum(row.seconds for row in rows), 1),
        echoes=len(took),
        p50_ms=_quantile_ms(took, 0.5),
        p95_ms=_quantile_ms(took, 0.95),
        p99_ms=_quantile_ms(took, 0.99),
        max_ms=_quantile_ms(took, 1.0),
        lag_p99_ms=_quantile_ms(late, 0.99),
        steal=_mean(rows, "steal") or 0.0,
        outside=_mean(rows, "outside") or 0.0,
        own=_mean(rows, "own") or 0.0,
        waited=_mean(rows, "waited") or 0.0,
        running=_mean(rows, "running") or 0.0,
        pressure_cpu=_mean(rows, "pressure_cpu"),
        pressure_memory=_mean(rows, "pressure_memory"),
        pressure_io=_mean(rows, "pressure_io"),
        cost=_mean(rows, "cost") or 0.0,
        starved_s=round(sum(row.seconds for row in rows if noise.starved(row)), 1),
    )


def echoes_per_line(rows: Sequence[NoiseRow], t0_ns: int) -> list[list[float | None]]:
    """What echoes took over time: [second, p50, p99, max, count] a line, times in ms."""
    shown: list[list[float | None]] = []
    for row in rows:
        took = sorted(echo.took_us for echo in row.echoes)
        if took:
            times = [_quantile_ms(took, quantile) for quantile in (0.5, 0.99, 1.0)]
            shown.append([(row.start_ns - t0_ns) / NS_PER_S, *times, len(took) / row.seconds])
    return shown


def _quantile_ms(values_us: Sequence[int], quantile: float) -> float:
    return values_us[max(0, math.ceil(len(values_us) * quantile) - 1)] / 1000 if values_us else 0.0


def _mean(rows: Sequence[NoiseRow], name: str) -> float | None:
    """Mean of a field over time; None when no line has it."""
    known = [(getattr(row, name), row.seconds) for row in rows if getattr(row, name) is not None]
    seconds = sum(length for _, length in known)
    return round(sum(value * length for value, length in known) / seconds, 4) if seconds else None
