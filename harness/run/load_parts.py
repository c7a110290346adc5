"""How the load of a run is shared out: which process does which part of the plan, and where. Pure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Literal

import msgspec

STREAMS_PER_ENGINE = 9_000
MOST_WORKERS = 64
"""Locust processes of one machine"""
PANEL_PER_WORKER = 2
"""panel sessions that each process must have: a cursor is tried by another session of the same process"""
MODULES = {"locust": "harness.load.locust_process", "streams": "harness.load.stream_engine"}
"""kind of a load process -> what it runs"""


class Part(msgspec.Struct, frozen=True):
    """One load process: it takes part `index` of `count` of what its kind does."""

    kind: Literal["locust", "streams"]
    index: int
    count: int

    @property
    def name(self) -> str:
        """What the process is called everywhere in the run."""
        return f"{self.kind}-{self.index}"

    def command(self, plan: Path) -> list[str]:
        """What starts it."""
        return [sys.executable, "-m", MODULES[self.kind], str(plan), self.name, str(self.index), str(self.count)]


def share_out(processes: Sequence[int], listeners: int) -> list[tuple[Part, ...]]:
    """The parts that each place takes; `processes`: how many Locust processes it is to run.

    Every place that has any takes its turn at the stream engines, so that each holds about as many streams.
    """
    total = sum(processes)
    places = [
        [Part("locust", index, total) for index in range(first, first + own)]
        for first, own in zip(accumulate(processes, initial=0), processes, strict=False)
    ]
    taking = [place for place in places if place]
    engines = max(-(-listeners // STREAMS_PER_ENGINE), len(taking)) if listeners else 0
    for index in range(engines):
        taking[index % len(taking)].append(Part("streams", index, engines))
    return [tuple(place) for place in places]


def workers_problems(option: str, processes: int, panel: int) -> list[str]:
    """Why a run cannot be shared out over that many Locust processes."""
    if processes < 1:
        return [f"{option}: no process is left to make the load"]
    if processes > 1 and 0 < panel < PANEL_PER_WORKER * processes:
        most = max(1, panel // PANEL_PER_WORKER)
        return [f"{option}: {processes} processes need population.panel >= {PANEL_PER_WORKER * processes}, or 0; "
                f"with {panel} there can be {most}"]  # fmt: skip
    return []
