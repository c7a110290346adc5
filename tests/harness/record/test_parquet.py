"""From segments to Parquet: nothing is lost or doubled, also of a run under way, also when it is done again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from harness.core.in_use import hold_open
from harness.core.op import Op, OpKind
from harness.record.clocks import Clock, write_clocks
from harness.record.columns import COLUMNS
from harness.record.conversion import ITEMS, OPS
from harness.record.frames import ITEM_FIELDS, HistoryError, read_frames
from harness.record.history import HistoryWriter, being_written
from harness.record.parquet import SCRATCH, open_history, processes, seal, to_parquet
from harness.record.run_directory import RunDirectory

MakeOp = Callable[..., Op]


def query(run: RunDirectory, what: str = "id") -> list[tuple[object, ...]]:
    with open_history(run) as history:
        return history.execute(f"SELECT {what} FROM ops ORDER BY id").fetchall()


def store(run: RunDirectory, name: str, *ops: Op) -> Path:
    path = run.history / f"{name}.jsonl"
    with HistoryWriter(path) as writer:
        for op in ops:
            writer.append(op)
    return path


def page(make_op: MakeOp, number: int, *posts: str, **fields: object) -> Op:
    places = range(len(posts))
    lists = {"item_ts_us": [*places], "item_authors": [*places], "item_hashes": [*places]}
    return make_op(number, ids=list(posts), **lists, **fields)


def names(run: RunDirectory) -> list[str]:
    """What is in the folder and can be seen."""
    return sorted(p.name for p in run.history.iterdir() if p.name != ".convert-lock")


def test_columns_are_the_fields_of_op() -> None:
    assert (*COLUMNS, *ITEM_FIELDS) == (
        *(f for f in Op.__struct_fields__ if f not in ITEM_FIELDS),
        "items",
        *ITEM_FIELDS,
    )


def test_every_field_survives(run: RunDirectory, make_op: MakeOp, every_field: dict[str, object]) -> None:
    ops = [make_op(1), make_op(2**61, **every_field)]
    store(run, "a", *ops)
    with open_history(run) as history:
        answer = history.execute("SELECT * EXCLUDE (items) FROM ops ORDER BY id")
        columns = [column[0] for column in answer.description]
        rows = [dict(zip(columns, row, strict=True)) for row in answer.fetchall()]
    secrets = [{name: row.pop(name) for name in ("cursor", "next_cursor")} for row in rows]
    wanted = [msgspec.structs.asdict(op) for op in ops]
    assert rows == [{k: v for k, v in row.items() if k not in ("cursor", "next_cursor")} for row in wanted]
    assert secrets[0] == {"cursor": "", "next_cursor": ""}
    assert [len(text) for text in secrets[1].values()] == [16, 16]


def test_a_cursor_has_the_fingerprint_of_the_one_it_came_as(run: RunDirectory, make_op: MakeOp) -> None:
    store(run, "a", make_op(1, next_cursor="x" * 90), make_op(2, cursor="x" * 90, next_cursor="y" * 90))
    ((_, received), (sent, other)) = query(run, "cursor, next_cursor")
    assert received == sent != other


def test_items_of_processes_stay_apart(run: RunDirectory, make_op: MakeOp) -> None:
    store(run, "a", page(make_op, 1, "p1", "p2"), make_op(2))
    store(run, "b", page(make_op, 3, "p2", "p3", "p2"))
    assert query(run, "id, ids, item_ts_us") == [
        (1, ["p1", "p2"], [0, 1]),
        (2, [], []),
        (3, ["p2", "p3", "p2"], [0, 1, 2]),
    ]
    with open_history(run) as history:
        assert history.execute("SELECT number, post FROM seen ORDER BY number").fetchall() == [
            (1, "p1"),
            (2, "p2"),
            (3, "p2"),
            (4, "p3"),
            (5, "p2"),
        ]


def test_a_torn_tail_is_left_out_and_left_alone(run: RunDirectory, make_op: MakeOp) -> None:
    path = store(run, "a", make_op(1))
    with path.open("ab") as file:
        file.write(b'{"frame":1,"rows":1,"seen":0,"seen_bytes":0,"bytes":400,"crc":1}\n{"id":2,"ki')
    before = path.read_bytes()
    assert query(run) == [(1,)]
    assert path.read_bytes() == before


def test_a_segment_of_a_torn_tail_only_is_empty(run: RunDirectory) -> None:
    (run.history / "a.jsonl").write_bytes(b'{"frame":0,"ro')
    (run.history / "b.jsonl").write_bytes(b"")
    assert query(run) == []


def test_no_segments_give_an_empty_table(run: RunDirectory) -> None:
    assert query(run) == []
    assert seal(run)
    assert query(run) == []


def test_damage_is_named_and_nothing_is_made(run: RunDirectory, make_op: MakeOp) -> None:
    store(run, "good", make_op(1))
    path = store(run, "streams-0", make_op(2))
    path.write_bytes(path.read_bytes().replace(b'"feed"', b'"food"') * 2)
    with pytest.raises(HistoryError, match=r"history/streams-0\.jsonl, frame 0: "):
        to_parquet(run)
    assert names(run) == ["good.jsonl", "streams-0.jsonl"]


@pytest.mark.parametrize(
    ("field", "value"), [('"user":7', '"user":"x"'), ('"user":7,', "")], ids=["wrong type", "missing field"]
)
def test_a_row_that_is_no_op_is_named(
    run: RunDirectory,
    make_op: MakeOp,
    reframe: Callable[[Path, Callable[[bytes], bytes]], None],
    field: str,
    value: str,
) -> None:
    path = store(run, "streams-0", make_op(1), make_op(2))
    reframe(path, lambda body: body.replace(field.encode(), value.encode()))
    with pytest.raises(HistoryError, match=r"history/streams-0\.jsonl, frame 0: row 1 is no op: "):
        to_parquet(run)
    assert names(run) == ["streams-0.jsonl"]


def test_rows_that_are_missing_are_noticed(
    run: RunDirectory, make_op: MakeOp, reframe: Callable[[Path, Callable[[bytes], bytes]], None]
) -> None:
    path = store(run, "a", make_op(1), make_op(2))
    reframe(path, lambda body: body.splitlines(keepends=True)[0])
    with pytest.raises(HistoryError, match=r"ops\.parquet has 1 rows, segments have 2"):
        to_parquet(run)


def test_a_run_under_way_can_be_asked_again_and_again(run: RunDirectory, make_op: MakeOp) -> None:
    with HistoryWriter(run.history / "a.jsonl") as writer:
        writer.append(page(make_op, 1, "p1"))
        assert query(run) == []
        writer.flush()
        assert query(run, "id, ids") == query(run, "id, ids") == [(1, ["p1"])]
        assert not seal(run)
        writer.append(page(make_op, 2, "p1", "p2"))
        writer.flush()
        store(run, "Earlier", page(make_op, 3, "p3"))
        assert query(run, "id, ids") == [(1, ["p1"]), (2, ["p1", "p2"]), (3, ["p3"])]
        assert not seal(run)
    assert names(run) == ["Earlier.jsonl", "a.jsonl", ITEMS, OPS]


def test_segments_go_when_nobody_writes(run: RunDirectory, make_op: MakeOp) -> None:
    store(run, "a", page(make_op, 1, "p1"))
    with being_written(run.history):
        to_parquet(run)
        assert not seal(run)
    assert seal(run)
    assert names(run) == [ITEMS, OPS]
    assert seal(run)
    assert query(run, "id, ids") == [(1, ["p1"])]


def test_who_wrote_is_known_with_and_without_segments(run: RunDirectory, make_op: MakeOp) -> None:
    assert processes(run) == set()
    store(run, "a", make_op(1))
    assert processes(run) == {"a"}
    to_parquet(run)
    store(run, "b", make_op(2))
    assert processes(run) == {"a", "b"}
    to_parquet(run)
    assert seal(run)
    assert processes(run) == {"a", "b"}


def test_segments_stay_until_parquet_has_all_of_them(run: RunDirectory, make_op: MakeOp) -> None:
    store(run, "a", make_op(1))
    assert not seal(run)
    to_parquet(run)
    store(run, "b", make_op(2))
    assert not seal(run)
    to_parquet(run)
    with duckdb.connect() as db:
        db.execute(f"CREATE TABLE fewer AS SELECT * FROM '{run.history / OPS}' LIMIT 1")
        (told,) = db.execute(f"SELECT decode(value) FROM parquet_kv_metadata('{run.history / OPS}')").fetchall()[0]
        db.execute(f"COPY fewer TO '{run.history / OPS}' (FORMAT parquet, KV_METADATA {{feedstorm: '{told}'}})")
    assert not seal(run)
    assert names(run) == ["a.jsonl", "b.jsonl", ITEMS, OPS]


def test_what_comes_after_segments_went_is_added(run: RunDirectory, make_op: MakeOp) -> None:
    store(run, "b", page(make_op, 1, "p1", "p2"))
    to_parquet(run)
    assert seal(run)
    store(run, "a", page(make_op, 2, "p3", "p1"))
    wanted = [(1, ["p1", "p2"]), (2, ["p3", "p1"])]
    assert query(run, "id, ids") == query(run, "id, ids") == wanted
    assert seal(run)
    assert query(run, "id, ids") == wanted


def test_a_kill_while_segments_are_deleted_doubles_nothing(run: RunDirectory, make_op: MakeOp) -> None:
    store(run, "a", page(make_op, 1, "p1"))
    path = store(run, "b", page(make_op, 2, "p2"))
    kept = path.read_bytes()
    to_parquet(run)
    assert seal(run)
    path.write_bytes(kept)
    assert query(run, "id, ids") == [(1, ["p1"]), (2, ["p2"])]
    store(run, "c", page(make_op, 3, "p2"))
    assert query(run, "id, ids") == [(1, ["p1"]), (2, ["p2"]), (3, ["p2"])]
    with path.open("ab") as file:
        file.write(kept)
    with pytest.raises(HistoryError, match=r"history/b\.jsonl: changed after"):
        to_parquet(run)


def test_a_kill_between_the_two_files_is_noticed(run: RunDirectory, make_op: MakeOp) -> None:
    path = store(run, "b", page(make_op, 1, "p1"))
    to_parquet(run)
    old = (run.history / OPS).read_bytes()
    store(run, "a", page(make_op, 2, "p2", "p3"))
    to_parquet(run)
    (run.history / OPS).write_bytes(old)
    assert not seal(run)
    assert query(run, "id, ids") == [(1, ["p1"]), (2, ["p2", "p3"])]
    assert path.exists()


def test_a_kill_between_the_two_files_loses_nothing_when_segments_went(run: RunDirectory, make_op: MakeOp) -> None:
    store(run, "b", page(make_op, 1, "p1"))
    to_parquet(run)
    assert seal(run)
    old = (run.history / OPS).read_bytes()
    store(run, "a", page(make_op, 2, "p2", "p3"))
    to_parquet(run)
    (run.history / OPS).write_bytes(old)
    assert not seal(run)
    assert query(run, "id, ids") == [(1, ["p1"]), (2, ["p2", "p3"])]
    assert seal(run)


@pytest.mark.parametrize("name", [OPS, ITEMS])
def test_damaged_parquet_is_made_again_or_named(run: RunDirectory, make_op: MakeOp, name: str) -> None:
    store(run, "a", page(make_op, 1, "p1"))
    to_parquet(run)
    (run.history / name).write_bytes(b"PAR1")
    assert query(run, "id, ids") == [(1, ["p1"])]
    assert seal(run)
    (run.history / name).write_bytes(b"PAR1")
    with pytest.raises(HistoryError, match=r"history/ops\.parquet, items\.parquet: "):
        to_parquet(run)


def test_times_are_put_on_the_harnesss_clock(run: RunDirectory, make_op: MakeOp) -> None:
    far = Clock(process="a", machine="m", offset_ns=-1_000_000, drift=1e-3, at_ns=5_000_000, readings=9)
    store(run, "a", make_op(1, due_ns=5_000_000, sent_ns=6_000_000, done_ns=7_000_000))
    store(run, "b", make_op(2, due_ns=1, sent_ns=2, done_ns=3, kind=OpKind.EVENT))
    write_clocks(run.clocks, [far, Clock(process="b", machine="here")])
    wanted = [(4_000_000, 5_001_000, 6_002_000), (1, 2, 3)]
    assert query(run, "due_ns, sent_ns, done_ns") == wanted
    write_clocks(run.clocks, [msgspec.structs.replace(far, offset_ns=0)])
    assert query(run, "due_ns")[0] == (5_000_000,)
    assert [len(list(read_frames(path))) for path in sorted(run.history.glob("*.jsonl"))] == [1, 1]


def test_what_is_converted_can_be_asked_where_nothing_can_be_written(
    run: RunDirectory, make_op: MakeOp, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(run, "a", make_op(1))
    to_parquet(run)
    opened = os.open

    def read_only(path: str | Path, flags: int, *rest: Any, **others: Any) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, flags, *rest, **others)

    monkeypatch.setattr(os, "open", read_only)
    assert query(run) == [(1,)]


def test_what_a_killed_conversion_left_goes_when_the_run_is_opened_and_a_living_ones_folder_stays(
    run: RunDirectory, make_op: MakeOp
) -> None:
    store(run, "locust-0", make_op(1))
    to_parquet(run)
    left, used = run.history / f"{SCRATCH}left", run.history / f"{SCRATCH}used"
    for folder in (left, used):
        folder.mkdir()
        (folder / OPS).write_bytes(b"half")
    descriptor = hold_open(used)
    to_parquet(run)  # there is nothing to convert
    assert (left.exists(), used.exists()) == (False, True)
    os.close(descriptor)
    assert query(run) == [(1,)]
    assert not used.exists()
