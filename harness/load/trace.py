"""Recorded arrivals, played again: `load.trace` of a scenario. One arrival a line, CSV or JSON, in any order of time.

    CSV     time_s,kind,actor,region,limit        the first line names the columns; those after kind may be missing
            0.512,read,17,us-east,50
    JSON    {"time_s": 0.512, "kind": "read", "actor": 17, "region": "us-east", "limit": 50}

time_s counts from the first phase. `actor` is any number: the same one is the same user of the run each time; without
it somebody is drawn, by the seed. Blank lines, and lines that begin with #, are skipped; a file ending in .gz is
decompressed. A file is read a line at a time, twice: before a run for its problems, each of which names file and line;
and by each load process, which keeps the arrivals that are due within the run and no others.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from harness.core.clock import NS_PER_S
from harness.core.errors import UsageError, nearest
from harness.core.load_rates import TRACED, Trace
from harness.core.seeds import rng
from harness.load.arrival_kinds import PANEL_POSTS, PANEL_READS, READER_PAGE, Arrival, ArrivalKind
from harness.load.edge_list import UNREADABLE, open_text, unreadable
from harness.load.plan import LoadPlan, Member

COLUMNS = ("time_s", "kind", "actor", "region", "limit")
KINDS = tuple(TRACED.values())
PANEL_SHARES = {"read": PANEL_READS, "post": PANEL_POSTS, "celebrity": 0.0, "reply": 1.0, "like": 1.0}
"""share of the actors of each kind that are panel sessions, as with rates"""
LONGEST_LINE = 4096
MOST_ARRIVALS = 2_000_000
"""within a run: each load process holds them, some 400 MB then"""
MOST_LIMIT = 50
_BITS = 1 << 32


class TraceLine(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One recorded arrival."""

    time_s: float
    kind: str
    actor: int | None = None
    region: str = ""
    limit: int = READER_PAGE
    """page size of a read"""

    def problem(self) -> str:
        """What is wrong with it; empty: nothing."""
        if not 0 <= self.time_s < math.inf:
            return f"time_s must be >= 0, got {self.time_s:g}"
        if self.kind not in KINDS:
            return f"unknown kind {self.kind!r}{nearest(self.kind, KINDS)}"
        if self.actor is not None and not 0 <= self.actor < 1 << 63:
            return f"actor must be from 0 to 2^63 - 1, got {self.actor}"
        return "" if 1 <= self.limit <= MOST_LIMIT else f"limit must be from 1 to {MOST_LIMIT}, got {self.limit}"


_TYPES = {
    "time_s": "a number",
    "actor": "a whole number",
    "limit": "a whole number",
    "kind": "a text",
    "region": "a text",
}


class _LineError(Exception):
    """What is wrong with a line."""


def known(trace: Trace) -> Trace:
    """The trace with what is in its file. Raises UsageError naming file:line and what was expected there."""
    kinds: Counter[str] = Counter()
    regions: set[str] = set()
    for line in read_trace(Path(trace.path)):
        kinds[line.kind] += 1
        regions.add(line.region)
    if not kinds:
        raise UsageError(f"{trace.path}: expected at least one arrival, found none")
    return msgspec.structs.replace(trace, kinds=tuple(sorted(kinds)), regions=tuple(sorted(regions - {""})))


def of_trace(plan: LoadPlan, taken: Mapping[str, int]) -> list[Arrival]:
    """The arrivals of the plan's trace that are due within the run.

    `taken`: how many arrivals of each kind there are already; those of the trace are numbered from there on.
    """
    numbers, drawn = Counter(taken), rng(plan.seed, "load", "trace")
    found = []
    for due_ns, line in _within(plan):
        actor = line.actor if line.actor is not None else int(drawn.integers(0, 1 << 31))
        found.append(_arrival(plan, line, due_ns, actor, numbers[line.kind]))
        numbers[line.kind] += 1
    return found


def too_late(plan: LoadPlan) -> str:
    """How many arrivals of the plan's trace come after the end of the run, in words; empty: none."""
    if plan.rates.trace is None:
        return ""
    lines = sum(1 for _ in read_trace(path_of(plan)))
    late = lines - sum(1 for _ in _within(plan))
    return f"{late:,} of the {lines:,} arrivals of load.trace: they come after the end of the run" if late else ""


def path_of(plan: LoadPlan) -> Path:
    """The file of the plan's trace: in the run directory, unless its path is absolute."""
    if plan.rates.trace is None:
        raise ValueError("the plan has no trace")
    return Path(plan.run) / plan.rates.trace.path


def _within(plan: LoadPlan) -> Iterator[tuple[int, TraceLine]]:
    """Arrivals with their due times, none of a kind that was left out."""
    trace = plan.rates.trace
    if trace is None:
        return
    count = 0
    for line in read_trace(path_of(plan)):
        due_ns = round(min(line.time_s / trace.speed * NS_PER_S, float(plan.end_ns)))
        if due_ns < plan.end_ns and line.kind in trace.kinds:
            count += 1
            if count > MOST_ARRIVALS:
                raise UsageError(f"load.trace: has more than {MOST_ARRIVALS:,} arrivals within the run")
            yield due_ns, line


def _arrival(plan: LoadPlan, line: TraceLine, due_ns: int, actor: int, number: int) -> Arrival:
    kind = ArrivalKind(line.kind)
    others = {ArrivalKind.READ: plan.readers, ArrivalKind.CELEBRITY: plan.celebrities}.get(kind, plan.posters)
    panel = bool(plan.panel) and (not others or _share_of(actor) < PANEL_SHARES[line.kind])
    place = _place(plan.panel if panel else others, actor, line.region)
    if kind is ArrivalKind.CELEBRITY:  # those who join late are in no recording
        place %= len(plan.celebrities)
    return Arrival(
        due_ns=due_ns,
        kind=kind,
        number=number,
        actor=place,
        panel=panel,
        limit=line.limit,
        region=line.region,
    )


def _share_of(actor: int) -> float:
    """A number from 0 to 1 that is always the same for an actor, and spread evenly over them.

    Source: multiplicative hashing, Knuth, The Art of Computer Programming, volume 3, section 6.4.
    """
    return (actor * 2_654_435_769 % _BITS) / _BITS


def _place(group: Sequence[Member], actor: int, region: str) -> int:
    """Who of the group acts: always the same one for an actor, of that region if one is named and somebody is there."""
    for step in range(len(group) if region else 0):
        place = (actor + step) % len(group)
        if group[place][1] == region:
            return place
    return actor


def read_trace(path: Path) -> Iterator[TraceLine]:
    """The recorded arrivals, in the order of the file. Raises UsageError naming file:line and what was expected."""
    at = 0
    try:
        with open_text(path) as file:
            columns: list[str] = []
            for at, text in _lines(file):  # noqa: B007
                if columns or text.startswith("{"):
                    yield _parsed(text, columns)
                else:
                    columns = _columns(text)
    except (_LineError, msgspec.DecodeError, csv.Error) as error:
        raise UsageError(f"{path}:{at}: {_in_words(error)}") from error
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def _in_words(error: Exception) -> str:
    """What is wrong with a line; of a value of the wrong type, what its column holds."""
    column = str(error).partition(" - at `$.")[2].rstrip("`")
    return f"{column} must be {_TYPES[column]}" if column in _TYPES else str(error)


def _lines(file: IO[str]) -> Iterator[tuple[int, str]]:
    """Numbered lines with something in them; of one that is too long, the part that tells."""
    number = 0
    while text := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(text) <= LONGEST_LINE:
            text = text.lstrip("\ufeff").strip()
        if text and not text.startswith("#"):
            yield number, text


def _parsed(text: str, columns: Sequence[str]) -> TraceLine:
    """The arrival in a line of JSON, or of CSV with these columns."""
    if len(text) > LONGEST_LINE:
        raise _LineError(f"longer than {LONGEST_LINE:,} characters")
    line = _csv_line(text, columns) if columns else msgspec.json.decode(text, type=TraceLine)
    if problem := line.problem():
        raise _LineError(problem)
    return line


def _columns(text: str) -> list[str]:
    """The columns that the first line of a CSV file names."""
    names = [name.strip() for name in next(csv.reader([text]))]
    for name in names:
        if name not in COLUMNS:
            raise _LineError(f"unknown column {name[:80]!r}{nearest(name, COLUMNS)}")
    missing = [name for name in COLUMNS[:2] if name not in names]
    if missing or len(set(names)) < len(names):
        raise _LineError(f"expected a line of column names such as {','.join(COLUMNS)}, got {text[:80]!r}")
    return names


def _csv_line(text: str, columns: Sequence[str]) -> TraceLine:
    cells = [cell.strip() for cell in next(csv.reader([text]))]
    if len(cells) != len(columns):
        raise _LineError(f"expected {len(columns)} cells ({', '.join(columns)}), got {text[:80]!r}")
    filled = {name: cell for name, cell in zip(columns, cells, strict=True) if cell}
    return msgspec.convert(filled, TraceLine, strict=False)
