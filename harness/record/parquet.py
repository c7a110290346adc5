"""Turns the history segments of a run into `history/ops.parquet`, the one table every checker reads.

Kept apart from `harness.record.history` so that load processes never load DuckDB. Writes nothing but the
Parquet file; segments stay as they are.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import duckdb
import msgspec

from harness.core.errors import ExitCode, FeedstormError
from harness.core.op import Op
from harness.record.run_directory import RunDirectory

PARQUET = "ops.parquet"
_TAIL_BLOCK_BYTES = 1 << 20
_REQUIRED = ("id", "kind", "session", "user", "region", "due_ns", "sent_ns", "done_ns", "outcome")

COLUMNS: dict[str, tuple[str, str]] = {
    "id": ("BIGINT", ""),
    "kind": ("VARCHAR", ""),
    "session": ("VARCHAR", ""),
    "user": ("BIGINT", ""),
    "region": ("VARCHAR", ""),
    "due_ns": ("BIGINT", ""),
    "sent_ns": ("BIGINT", ""),
    "done_ns": ("BIGINT", ""),
    "outcome": ("VARCHAR", ""),
    "status": ("INTEGER", "0"),
    "post": ("VARCHAR", "''"),
    "author": ("BIGINT", "-1"),
    "ts_us": ("BIGINT", "0"),
    "text_hash": ("BIGINT", "0"),
    "reply_to": ("VARCHAR", "''"),
    "idempotency_key": ("VARCHAR", "''"),
    "walk": ("BIGINT", "0"),
    "page": ("INTEGER", "0"),
    "limit": ("INTEGER", "0"),
    "cursor": ("VARCHAR", "''"),
    "next_cursor": ("VARCHAR", "''"),
    "since": ("VARCHAR", "''"),
    "token": ("VARCHAR", "''"),
    "variant": ("VARCHAR", "''"),
    "degraded": ("VARCHAR", "''"),
    "final": ("BOOLEAN", "false"),
    "celebrity": ("BOOLEAN", "false"),
    "error": ("VARCHAR", "''"),
    "ids": ("VARCHAR[]", "[]"),
    "item_ts_us": ("BIGINT[]", "[]"),
    "item_authors": ("BIGINT[]", "[]"),
    "item_hashes": ("BIGINT[]", "[]"),
}
"""Column -> (type, value when the row leaves it out; empty = always present), in the order of `Op`."""


class HistoryError(FeedstormError):
    """The history is damaged: names the segment and the line. Nothing can be judged on it."""

    exit_code = ExitCode.INCONCLUSIVE


def to_parquet(run: RunDirectory) -> Path:
    """The run's history as Parquet, converted unless it is newer than every segment.

    A torn last line of a segment (its process was killed while writing) is dropped. Raises HistoryError
    naming file and line when any other line is not a row.
    """
    out = run.history / PARQUET
    segments = sorted(run.history.glob("*.jsonl"))
    if out.exists() and all(s.stat().st_mtime_ns < out.stat().st_mtime_ns for s in segments):
        return out
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=run.history) as folder:
        whole = [path for path in (_whole_lines(s, Path(folder)) for s in segments) if path.stat().st_size]
        made = Path(folder) / PARQUET
        try:
            _convert(whole, made)
        except duckdb.Error as error:
            raise HistoryError(_first_damage(whole) or f"history: {error}") from error
        made.replace(out)
    return out


def _convert(segments: list[Path], out: Path) -> None:
    with duckdb.connect() as db:
        db.execute("SET preserve_insertion_order = false")
        db.execute("SET enable_progress_bar = false")
        source = _source(segments) if segments else _no_rows()
        db.execute(f"COPY ({source}) TO {_quote(str(out))} (FORMAT parquet)")
        missing = " OR ".join(f'"{c}" IS NULL' for c in _REQUIRED)
        (count,) = db.execute(f"SELECT count(*) FROM {_quote(str(out))} WHERE {missing}").fetchall()[0]
    if count:
        raise HistoryError(_first_damage(segments) or f"history: {count} rows lack a required field")


def _source(segments: list[Path]) -> str:
    """A query over the segments with every column of `Op`."""
    columns = ", ".join(f"{_quote(name)}: {_quote(kind)}" for name, (kind, _) in COLUMNS.items())
    files = ", ".join(_quote(str(path)) for path in segments)
    chosen = ", ".join(
        f'coalesce("{name}", {default}) AS "{name}"' if default else f'"{name}"'
        for name, (_, default) in COLUMNS.items()
    )
    return f"SELECT {chosen} FROM read_json([{files}], format='newline_delimited', columns={{{columns}}})"


def _no_rows() -> str:
    columns = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, (kind, _) in COLUMNS.items())
    return f"SELECT {columns} WHERE false"


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _whole_lines(segment: Path, folder: Path) -> Path:
    """The segment itself, or a copy without its torn last line."""
    size = segment.stat().st_size
    with segment.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - _TAIL_BLOCK_BYTES)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
    if end == size:
        return segment
    copy = folder / segment.name
    shutil.copyfile(segment, copy)
    with copy.open("r+b") as file:
        file.truncate(end)
    return copy


def _first_damage(segments: list[Path]) -> str:
    """ "segment, line N: what is wrong" for the first line that is not an op; empty when all are."""
    decoder = msgspec.json.Decoder(Op)
    for segment in segments:
        with segment.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    return f"history/{segment.name}, line {number}: not a history row: {error}"
    return ""
