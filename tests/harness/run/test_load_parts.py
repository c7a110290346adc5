"""How the load is shared out over places."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.run.load_parts import STREAMS_PER_ENGINE, Part, share_out, workers_problems


def names(places: list[tuple[Part, ...]]) -> list[list[str]]:
    return [[part.name for part in place] for place in places]


@pytest.mark.parametrize(
    ("processes", "listeners", "expected"),
    [
        ([1], 0, [["locust-0"]]),
        ([1], 1, [["locust-0", "streams-0"]]),
        ([2], STREAMS_PER_ENGINE + 1, [["locust-0", "locust-1", "streams-0", "streams-1"]]),
        ([1, 2], 10, [["locust-0", "streams-0"], ["locust-1", "locust-2", "streams-1"]]),
        ([0, 1, 1], 10, [[], ["locust-0", "streams-0"], ["locust-1", "streams-1"]]),
        (
            [1, 1],
            3 * STREAMS_PER_ENGINE,
            [["locust-0", "streams-0", "streams-2"], ["locust-1", "streams-1"]],
        ),
    ],
)
def test_every_part_is_somewhere(processes: list[int], listeners: int, expected: list[list[str]]) -> None:
    places = share_out(processes, listeners)
    assert names(places) == expected
    for kind in ("locust", "streams"):
        parts = [part for place in places for part in place if part.kind == kind]
        assert {part.count for part in parts} <= {len(parts)}
        assert sorted(part.index for part in parts) == list(range(len(parts)))


def test_a_part_is_started_by_its_name_and_place() -> None:
    assert Part("streams", 1, 3).command(Path("plan.json"))[1:] == [
        "-m", "harness.load.stream_engine", "plan.json", "streams-1", "1", "3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("processes", "panel", "problem"),
    [(0, 9, "no process is left"), (5, 9, "need population.panel >= 10, or 0; with 9 there can be 4"), (1, 1, ""),
     (4, 8, ""), (4, 0, "")],
)  # fmt: skip
def test_more_processes_than_sessions_are_refused(processes: int, panel: int, problem: str) -> None:
    found = workers_problems("--workers", processes, panel)
    assert [problem in text for text in found] == ([True] if problem else [])
