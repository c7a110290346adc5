"""History segments and their conversion: nothing is lost but a torn tail, damage is named."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import msgspec
import pytest

from harness.core.op import Op, OpKind, OpOutcome
from harness.record.history import HistoryWriter
from harness.record.parquet import COLUMNS, HistoryError, to_parquet
from harness.record.run_directory import RunDirectory

MakeOp = Callable[..., Op]


def _rows(run: RunDirectory, what: str = "*") -> list[tuple[object, ...]]:
    path = to_parquet(run)
    with duckdb.connect() as db:
        return db.execute(f"SELECT {what} FROM '{path}' ORDER BY id").fetchall()


def test_columns_are_the_fields_of_op() -> None:
    assert tuple(COLUMNS) == Op.__struct_fields__


def test_defaults_of_columns_are_those_of_op(run: RunDirectory, make_op: MakeOp) -> None:
    with HistoryWriter(run.history / "a.jsonl") as writer:
        writer.append(make_op(1))
    row = dict(zip(COLUMNS, _rows(run)[0], strict=True))
    assert row == msgspec.structs.asdict(make_op(1))


def test_every_field_survives(run: RunDirectory, make_op: MakeOp) -> None:
    full = make_op(
        2**61,
        kind=OpKind.POST,
        outcome=OpOutcome.INFO,
        status=504,
        post="p-1",
        author=3,
        ts_us=1_700_000_000_000_000,
        text_hash=2**63 - 1,
        reply_to="p-0",
        idempotency_key="k",
        walk=4,
        page=2,
        limit=50,
        cursor="c1",
        next_cursor="c2",
        since="s",
        token="us-east.1.2",
        degraded="stale",
        final=True,
        celebrity=True,
        error="timeout: ünï\n'quoted'",
        ids=["a", "b"],
        item_ts_us=[2, 1],
        item_authors=[5, 6],
        item_hashes=[7, 8],
    )
    with HistoryWriter(run.history / "a.jsonl") as writer:
        writer.append(full)
    assert dict(zip(COLUMNS, _rows(run)[0], strict=True)) == msgspec.structs.asdict(full)


def test_rows_are_written_at_a_flush(run: RunDirectory, make_op: MakeOp) -> None:
    path = run.history / "a.jsonl"
    writer = HistoryWriter(path)
    writer.append(make_op(1))
    assert path.read_bytes() == b""
    writer.flush()
    assert path.read_bytes().count(b"\n") == 1
    writer.append(make_op(2))
    writer.close()
    writer.close()
    assert path.read_bytes().count(b"\n") == writer.rows == 2


def test_ids_of_processes_differ(run: RunDirectory) -> None:
    names = ["locust-0", "locust-1", "final", "setup", *(f"streams-{i}" for i in range(32))]
    writers = [HistoryWriter(run.history / f"{name}.jsonl") for name in names]
    blocks = {writer.next_id() >> 38 for writer in writers}
    assert len(blocks) == len(names)
    first = writers[0].next_id()
    assert [writers[0].next_id() for _ in range(3)] == [first + 1, first + 2, first + 3]
    for writer in writers:
        writer.close()


@pytest.mark.parametrize(
    "tail",
    [b'{"id":9,"ki', b"\xff\xfe", b'{"id":9}'],
    ids=["half a row", "not text", "a row without its line end"],
)
def test_torn_tail_is_dropped(run: RunDirectory, make_op: MakeOp, tail: bytes) -> None:
    path = run.history / "a.jsonl"
    with HistoryWriter(path) as writer:
        writer.append(make_op(1))
    with path.open("ab") as file:
        file.write(tail)
    before = path.read_bytes()
    assert _rows(run, "id") == [(1,)]
    assert path.read_bytes() == before


def test_a_segment_of_a_torn_tail_only_is_empty(run: RunDirectory) -> None:
    (run.history / "a.jsonl").write_bytes(b'{"id":1')
    assert _rows(run) == []


@pytest.mark.parametrize(
    "damage", [b'{"id":9,"ki', b"\x00\x00\x00", b'{"id":"nine"}', b'{"id":9}'], ids=["cut", "zeros", "type", "fields"]
)
def test_damage_in_the_middle_is_named(run: RunDirectory, make_op: MakeOp, damage: bytes) -> None:
    with HistoryWriter(run.history / "good.jsonl") as writer:
        writer.append(make_op(1))
    row = msgspec.json.encode(make_op(2))
    (run.history / "streams-0.jsonl").write_bytes(b"\n".join([row, damage, row, b""]))
    with pytest.raises(HistoryError, match=r"streams-0\.jsonl, line 2: not a history row"):
        to_parquet(run)
    assert sorted(p.name for p in run.history.iterdir()) == ["good.jsonl", "streams-0.jsonl"]


def test_no_segments_gives_an_empty_table(run: RunDirectory) -> None:
    assert _rows(run) == []


def test_segments_are_joined_and_newer_ones_converted_again(run: RunDirectory, make_op: MakeOp) -> None:
    for number, name in enumerate(("a", "b"), start=1):
        with HistoryWriter(run.history / f"{name}.jsonl") as writer:
            writer.append(make_op(number))
    assert _rows(run, "id") == [(1,), (2,)]
    with HistoryWriter(run.history / "final.jsonl") as writer:
        writer.append(make_op(3, final=True))
    assert _rows(run, "id, final") == [(1, False), (2, False), (3, True)]
