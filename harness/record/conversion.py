"""Makes Parquet of history segments: one query a segment, by DuckDB's parallel JSON reader, streamed.

`harness.record.parquet` decides what is converted and when. Times are put on the harness's clock here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import msgspec

from harness.record.clocks import Clock
from harness.record.columns import COLUMNS, ITEM_COLUMNS
from harness.record.frames import SUFFIX, HistoryError, StoredOp, damage, read_frames

OPS = "ops.parquet"
ITEMS = "items.parquet"
KEY = "feedstorm"
"""in the metadata of both files: `Contents`"""
THREADS = 2
MEMORY_LIMIT = "1GB"
_REQUIRED = tuple(name for name, (_, default) in COLUMNS.items() if not default)
_TIMES = ("due_ns", "sent_ns", "done_ns")
_SECRETS = ("cursor", "next_cursor")
"""opaque, unlike any other and long: kept as fingerprints, equal when they are"""
_PARQUET = "FORMAT parquet, PARQUET_VERSION v2, COMPRESSION zstd, COMPRESSION_LEVEL 3"


class Covered(msgspec.Struct, frozen=True):
    """What was converted of one segment."""

    size: int
    """of the file, with a torn tail"""
    rows: int
    items: int
    clock: Clock | None = None


class Contents(msgspec.Struct, frozen=True):
    """What a pair of Parquet files was made of; stands in the metadata of both."""

    segments: dict[str, Covered]

    @property
    def rows(self) -> int:
        """Ops in all."""
        return sum(covered.rows for covered in self.segments.values())

    @property
    def items(self) -> int:
        """Items in all."""
        return sum(covered.items for covered in self.segments.values())


@dataclass
class Conversion:
    """One conversion; everything is made in `folder` and put in its place at the end."""

    history: Path
    folder: Path
    kept: Contents
    """is taken over from the Parquet files that there are"""
    clocks: dict[str, Clock]
    covered: dict[str, Covered] = field(default_factory=dict)
    ops: list[str] = field(default_factory=list)
    """a query a source"""
    items: list[str] = field(default_factory=list)

    def make(self, segments: list[Path]) -> None:
        """Convert the segments. Raises HistoryError."""
        if self.kept.segments:
            columns = ", ".join(f'"{name}"' for name in COLUMNS)
            self.ops.append(f"SELECT {columns} FROM read_parquet({quote(str(self.history / OPS))})")
            source = f"read_parquet({quote(str(self.history / ITEMS))})"
            self.items.append(f"SELECT * FROM {source} WHERE number <= {self.kept.items}")
        base = self.kept.items
        for segment in segments:
            base += self._add(segment, base)
        contents = Contents({**self.kept.segments, **self.covered})
        with database(self.folder) as db:
            try:
                self._copy(db, ITEMS, self.items or [no_rows(ITEM_COLUMNS)], contents)
                self._copy(db, OPS, self.ops or [no_rows({n: kind for n, (kind, _) in COLUMNS.items()})], contents)
                self._verify(db, contents)
            except (duckdb.Error, HistoryError) as error:
                raise _first_damage(segments) or HistoryError(f"history: {error}") from error
        for name in (ITEMS, OPS):
            (self.folder / name).replace(self.history / name)

    def _add(self, segment: Path, base: int) -> int:
        """Verify the frames of a segment and make it a source; its items count from `base`. Returns their number."""
        size, end, rows, items = segment.stat().st_size, 0, 0, 0
        seen = self.folder / f"{segment.stem}.items{SUFFIX}"
        with seen.open("wb") as out:
            for frame in read_frames(segment):
                out.write(frame.item_lines)
                end, rows, items = frame.end, rows + frame.header.rows, items + frame.header.seen
        clock = self.clocks.get(segment.stem)
        self.covered[segment.name] = Covered(max(size, end), rows, items, clock)
        if items:
            self.items.append(_items_query(seen, base))
        if rows:
            self.ops.append(_ops_query(self._first(segment, end), base, clock))
        return items

    def _first(self, segment: Path, end: int) -> Path:
        """The segment, or a copy of its first `end` bytes when there are more."""
        if segment.stat().st_size == end:
            return segment
        part = self.folder / segment.name
        with segment.open("rb") as source, part.open("wb") as out:
            while out.tell() < end:
                out.write(source.read(min(1 << 22, end - out.tell())))
        return part

    def _copy(self, db: duckdb.DuckDBPyConnection, name: str, sources: list[str], contents: Contents) -> None:
        told = quote(msgspec.json.encode(contents).decode())
        out = quote(str(self.folder / name))
        union = " UNION ALL ".join(sources)
        db.execute(f"COPY ({union}) TO {out} ({_PARQUET}, KV_METADATA {{{KEY}: {told}}})")

    def _verify(self, db: duckdb.DuckDBPyConnection, contents: Contents) -> None:
        """Every row that the frames promise is there, and whole."""
        for name, wanted in ((OPS, contents.rows), (ITEMS, contents.items)):
            if (found := count(db, self.folder / name)) != wanted:
                raise HistoryError(f"{name} has {found} rows, segments have {wanted}")
        missing = " OR ".join(f'"{c}" IS NULL' for c in _REQUIRED)
        if found := count(db, self.folder / OPS, f"WHERE {missing}"):
            raise HistoryError(f"{found} rows lack a required field")


def _ops_query(segment: Path, base: int, clock: Clock | None) -> str:
    """The rows of a segment, with every column."""
    chosen = ", ".join(f'{_column(name, base, clock)} AS "{name}"' for name in COLUMNS)
    rows = json_rows(segment, {name: kind for name, (kind, _) in COLUMNS.items()})
    return f"SELECT {chosen} FROM {rows} WHERE id IS NOT NULL"


def _column(name: str, base: int, clock: Clock | None) -> str:
    """How a column is made of what the row has."""
    default = COLUMNS[name][1]
    if name == "items":
        return f"coalesce(list_transform(items, lambda n: n + {base + 1}), [])"
    if name in _SECRETS:
        return f"coalesce(left(md5({name}), 16), '')"
    if name in _TIMES and clock is not None and clock.readings:
        moved = f'"{name}" + {clock.offset_ns}'
        return f'{moved} + round({clock.drift!r} * ("{name}" - {clock.at_ns}))::BIGINT' if clock.drift else moved
    return f'coalesce("{name}", {default})' if default else f'"{name}"'


def _items_query(seen: Path, base: int) -> str:
    """The items of a segment, numbered behind those of the segments before it."""
    kinds = {"item": "INTEGER", **{name: kind for name, kind in ITEM_COLUMNS.items() if name != "number"}}
    others = ", ".join(name for name in ITEM_COLUMNS if name != "number")
    return f"SELECT (item + {base + 1})::INTEGER AS number, {others} FROM {json_rows(seen, kinds)}"


def json_rows(path: Path, columns: dict[str, str], form: str = "newline_delimited") -> str:
    """SQL: the rows of a JSON file; other keys are left out, absent ones are null."""
    named = ", ".join(f"{quote(name)}: {quote(kind)}" for name, kind in columns.items())
    return f"read_json({quote(str(path))}, format='{form}', columns={{{named}}})"


def no_rows(columns: dict[str, str]) -> str:
    """SQL: a table of these columns, without rows."""
    nothing = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in columns.items())
    return f"SELECT {nothing} WHERE false"


def count(db: duckdb.DuckDBPyConnection, path: Path, where: str = "") -> int:
    """Rows of a Parquet file, of those that the clause lets through."""
    (found,) = db.execute(f"SELECT count(*) FROM read_parquet({quote(str(path))}) {where}").fetchall()[0]
    return int(found)


def quote(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _first_damage(segments: Iterable[Path]) -> HistoryError | None:
    """The first row that is no op, though its frame has the right checksum; None when all are."""
    decode = msgspec.json.Decoder(StoredOp).decode
    for segment in segments:
        for frame in read_frames(segment):
            for place, row in enumerate(frame.rows, start=1):
                try:
                    decode(row)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    return damage(segment, frame.header.frame, f"row {place} is no op: {error}")
    return None


@contextmanager
def database(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that takes little memory; what does not fit is spilled into the folder for a while."""
    spill = folder / ".spill"
    with duckdb.connect(config={"threads": THREADS, "memory_limit": MEMORY_LIMIT, "temp_directory": str(spill)}) as db:
        db.execute("SET preserve_insertion_order = false")
        db.execute("SET enable_progress_bar = false")
        yield db
