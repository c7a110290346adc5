"""Reading a segment: a torn tail is dropped, any other damage is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.op import Op
from harness.record.frames import HistoryError, read_segment
from harness.record.history import HistoryWriter
from harness.record.run_directory import RunDirectory

MakeOp = Callable[..., Op]


def segment(run: RunDirectory, make_op: MakeOp, frames: int = 3) -> Path:
    """A segment of frames of two rows; ids count from 0."""
    path = run.history / "streams-0.jsonl"
    with HistoryWriter(path) as writer:
        for number in range(2 * frames):
            items = {"ids": [f"p{number}"], "item_ts_us": [1], "item_authors": [1], "item_hashes": [1]}
            writer.append(make_op(number, **items))
            if number % 2:
                writer.flush()
    return path


def starts(path: Path) -> list[int]:
    """Where its frames begin, and the end."""
    data, found = path.read_bytes(), [0]
    while (place := data.find(b'{"frame":', found[-1] + 1)) > 0:
        found.append(place)
    return [*found, len(data)]


def ids(path: Path) -> list[int]:
    return [op.id for op in read_segment(path)]


def test_a_tail_torn_anywhere_is_dropped(run: RunDirectory, make_op: MakeOp) -> None:
    path = segment(run, make_op)
    data, begins = path.read_bytes(), starts(path)
    for end in range(begins[2], begins[3]):
        path.write_bytes(data[:end])
        assert ids(path) == [0, 1, 2, 3], f"cut at byte {end}"
    for end in range(begins[1]):
        path.write_bytes(data[:end])
        assert ids(path) == []


def test_a_tail_that_never_reached_the_disk_is_dropped(run: RunDirectory, make_op: MakeOp) -> None:
    path = segment(run, make_op)
    data, begins = path.read_bytes(), starts(path)
    path.write_bytes(data[: begins[3] - 20] + b"\0" * 20)
    assert ids(path) == [0, 1, 2, 3]
    path.write_bytes(data[: begins[2]] + b"\0" * 5000)
    assert ids(path) == [0, 1, 2, 3]


def test_any_changed_byte_before_the_last_frame_is_named(run: RunDirectory, make_op: MakeOp) -> None:
    path = segment(run, make_op)
    data, begins = path.read_bytes(), starts(path)
    for place in range(begins[1], begins[2]):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(HistoryError, match=r"history/streams-0\.jsonl, frame [12]: "):
            ids(path)


def test_a_missing_frame_is_named(run: RunDirectory, make_op: MakeOp) -> None:
    path = segment(run, make_op)
    data, begins = path.read_bytes(), starts(path)
    path.write_bytes(data[: begins[1]] + data[begins[2] :])
    with pytest.raises(HistoryError, match=r"frame 1: calls itself frame 2"):
        ids(path)


def test_what_is_no_segment_is_named(run: RunDirectory) -> None:
    path = run.history / "a.jsonl"
    path.write_bytes(b'{"id":1}\n{"id":2}\n')
    with pytest.raises(HistoryError, match=r"history/a\.jsonl, frame 0: no header"):
        ids(path)
