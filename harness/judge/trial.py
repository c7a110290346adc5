"""What a checker is given, and what it answers.

A checker is one file in `harness.judge.invariants` with a `CHECKER` and one line in the map there. Its `check` gets
the `Trial` (facts and tables of one run) and answers a `Finding`: how many observations it made, how many of them
violate its property, and sentences that show it. `run_checker` turns that into the check of the verdict: a crash or
zero observations is inconclusive, never a pass; what the target cannot do is skipped by name.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from harness.core.verdict import Check, CheckKind, Outcome
from harness.judge.case import EVIDENCE_LIMIT, Case
from harness.judge.delays import Delay
from harness.judge.noise import Noise
from harness.judge.power import power_text
from harness.judge.tables import WITHDRAWALS

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shown:
    """Items of all reads, by op: those of `ops[k]` are `pids[starts[k]:starts[k + 1]]`, in page order."""

    ops: Ints
    starts: Ints
    pids: npt.NDArray[np.int32]

    @classmethod
    def read(cls, con: duckdb.DuckDBPyConnection) -> Shown:
        """From the table `item`, a part at a time: all of it together would take several times the memory."""
        counted = con.execute("SELECT op, count(*) AS n FROM item GROUP BY op ORDER BY op").fetchnumpy()
        ops, starts = np.asarray(counted["op"]), np.append(0, np.cumsum(counted["n"], dtype=np.int64))
        pids = np.empty(int(starts[-1]), dtype=np.int32)
        first = 0
        while first < len(ops):
            end = max(first + 1, int(np.searchsorted(starts, starts[first] + _FETCHED_TOGETHER, side="right")) - 1)
            part = con.execute(_PART, {"first": int(ops[first]), "last": int(ops[end - 1])}).fetchnumpy()
            pids[starts[first] : starts[end]] = part["pid"]
            first = end
        return cls(ops, starts, pids)

    @cached_property
    def rising(self) -> Ints:
        """Ops of the reads in which some neighbours do not strictly descend."""
        rising = np.flatnonzero(self.pids[1:] >= self.pids[:-1])
        owner = np.searchsorted(self.starts, rising, side="right") - 1
        inside = rising + 1 < self.starts[owner + 1]
        return np.unique(self.ops[owner[inside]])

    def of(self, op: int) -> list[int]:
        """The pids a read showed, top first."""
        listed: list[int] = self.gather(np.asarray([op]))[0].tolist()
        return listed

    def lengths(self, ops: Ints) -> Ints:
        """How many items each of the reads showed."""
        return self._ranges(ops)[1]

    def gather(self, ops: Ints) -> tuple[Ints, Ints]:
        """The pids of several reads one after the other, and where those of each read end."""
        starts, lengths = self._ranges(ops)
        ends = np.cumsum(lengths)
        offset = np.repeat(starts - (ends - lengths), lengths)
        return self.pids[np.arange(len(offset)) + offset].astype(np.int64), ends

    def _ranges(self, ops: Ints) -> tuple[Ints, Ints]:
        """Where the items of each of the reads begin, and how many they are."""
        if not len(self.ops):
            return np.zeros(len(ops), dtype=np.int64), np.zeros(len(ops), dtype=np.int64)
        place = np.minimum(np.searchsorted(self.ops, ops), len(self.ops) - 1)
        lengths = np.where(self.ops[place] == ops, self.starts[place + 1] - self.starts[place], 0)
        return self.starts[place], lengths


_FETCHED_TOGETHER = 4_000_000
_PART = "SELECT pid FROM item WHERE op BETWEEN $first AND $last ORDER BY op, i"


@dataclass(frozen=True)
class Trial:
    """The facts and the tables of one run."""

    case: Case
    con: duckdb.DuckDBPyConnection
    doubtful: tuple[Delay, ...] = ()
    """what the machine explains of times, for invariants that promise one: they judge what is later than that"""

    def rows(self, sql: str, **values: Any) -> list[Any]:
        """All rows of a query; `$name` in it stands for the keyword `name`."""
        return self.con.execute(sql, values).fetchall() if values else self.con.execute(sql).fetchall()

    def number(self, sql: str, **values: Any) -> int:
        """The single number a query answers (0 for NULL)."""
        return int(self.rows(sql, **values)[0][0] or 0)

    def post_names(self, pids: Iterable[int]) -> dict[int, str]:
        """pid -> the post's id on the wire."""
        wanted = [int(p) for p in pids]
        rows = self.rows("SELECT pid, id FROM post_id WHERE pid IN (SELECT unnest($pids::BIGINT[]))", pids=wanted)
        return dict(rows)

    @cached_property
    def noise(self) -> Noise:
        """What the machine did meanwhile."""
        return Noise.of(self.case)

    @cached_property
    def shown(self) -> Shown:
        """Items of all reads as arrays."""
        return Shown.read(self.con)

    def ignored(self, user: int) -> set[int]:
        """Posts whose absence from the user's feed means nothing.

        Withdrawn; of an author whose edge to the user changed during the run; so deep that newer arrivals may have
        pushed them out; or not known to be written and seen in a single read (the business of no_phantom).
        """
        ignored: set[int] = set(self.ignored_by(np.asarray([_EVERYBODY, user]))[1].tolist())
        return ignored

    def ignored_by(self, users: Ints) -> tuple[Ints, Ints]:
        """Those that one of the users alone need not see: how many a user, and the pids, user by user."""
        first, end = (np.searchsorted(self._hidden["user"], users, side=side) for side in ("left", "right"))
        counts = end - first
        offset = np.repeat(first - (np.cumsum(counts) - counts), counts)
        return counts, self._hidden["pid"][np.arange(len(offset)) + offset]

    @cached_property
    def ignored_by_all(self) -> npt.NDArray[np.bool_]:
        """Those that nobody need see: bool by pid."""
        mask = np.zeros(self.number("SELECT max(pid) FROM post_id") + 1, dtype=bool)
        mask[self.ignored_by(np.asarray([_EVERYBODY]))[1]] = True
        return mask

    def columns(self, sql: str, **values: Any) -> dict[str, Any]:
        """The answer of a query as numpy arrays by name; `$name` in it stands for the keyword `name`."""
        found: dict[str, Any] = (self.con.execute(sql, values) if values else self.con.execute(sql)).fetchnumpy()
        return found

    @cached_property
    def _hidden(self) -> dict[str, Ints]:
        """Users, ascending, and what each of them need not see."""
        return self.columns(_HIDDEN)


_EVERYBODY = -1
_HIDDEN = f"""
SELECT {_EVERYBODY} AS "user", k.pid FROM op o JOIN post_id k ON k.id = o.post
  WHERE o.kind IN {WITHDRAWALS} AND o.outcome <> 'fail'
UNION
SELECT {_EVERYBODY}, s.pid FROM (SELECT s.* FROM said s ANTI JOIN post p ON p.pid = s.pid) s
  JOIN item i ON i.number = s.number GROUP BY s.pid HAVING count(*) = 1
UNION
SELECT c.follower, i.pid FROM change c JOIN said s ON s.author = c.author JOIN item i ON i.number = s.number
  JOIN op o ON o.id = i.op AND o."user" = c.follower
UNION
SELECT "user", pid FROM due_item WHERE NOT shallow
ORDER BY "user"
"""


@dataclass(frozen=True)
class Finding:
    """What a checker found. `violations` counts all of them, `evidence` tells of the first ones."""

    observations: int
    violations: int = 0
    evidence: list[str] = field(default_factory=list)
    note: str = ""
    """one sentence on scope or coverage"""
    value: float | None = None
    """what was measured; default: the number of violations"""
    bound: float | None = None
    unit: str = "violations"
    unproven: str = ""
    """why the checker cannot pass although it made observations; empty: it can"""


@dataclass(frozen=True)
class Checker:
    """One invariant: how it is checked, and what the target must be able to do."""

    check: Callable[[Trial], Finding]
    needs: tuple[str, ...] = ()
    """names of capabilities (of the target profile); "stream" and "regions" are among them"""
    kind: CheckKind = CheckKind.INVARIANT
    skip: Callable[[Case], str] | None = None
    """why there is nothing to check in this case; empty: there is"""
    loads: tuple[str, ...] = ()
    """rates of the scenario's [load] of which at least one gives something to observe; empty: any load does"""


def doubted(check: Check, why: str) -> Check:
    """The check when a fault it is about has no witness, `why` (empty: it has one): it cannot pass, but still fail."""
    if why and not check.skipped and check.verdict is not Outcome.FAIL:
        check.verdict = Outcome.INCONCLUSIVE
        check.reason = "; ".join(part for part in (why, check.reason) if part)
    return check


def run_checker(name: str, checker: Checker, trial: Trial) -> Check:
    """The check of the verdict. Never raises."""
    reason = _skip_reason(name, checker, trial.case)
    if reason:
        return Check(name=name, kind=checker.kind, verdict=Outcome.INCONCLUSIVE, reason=reason, skipped=True)
    try:
        found = checker.check(trial)
    except Exception as error:  # the checker's edge: its crash is one inconclusive check, not the end of the judgement
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"the checker crashed: {type(error).__name__}: {error} ({where.name}, line {where.lineno})"
        return Check(name=name, kind=checker.kind, verdict=Outcome.INCONCLUSIVE, reason=text)
    return Check(
        name=name,
        kind=checker.kind,
        verdict=_outcome(found),
        value=float(found.violations) if found.value is None else found.value,
        bound=0.0 if found.value is None else found.bound,
        unit=found.unit,
        observations=found.observations,
        reason=_reason(found),
        evidence=found.evidence[:EVIDENCE_LIMIT],
    )


def _outcome(found: Finding) -> Outcome:
    if found.violations:
        return Outcome.FAIL
    if not found.observations or found.unproven:
        return Outcome.INCONCLUSIVE
    return Outcome.PASS


def _reason(found: Finding) -> str:
    if found.violations:
        first = f"{found.violations:,} violations in {found.observations:,} observations"
    elif not found.observations:
        first = "nothing was observed"
    else:
        first = f"no violation in {found.observations:,} observations"
        if found.value is None:
            first += f" ({power_text(found.observations)})"
    return "; ".join(part for part in (first, found.unproven, found.note) if part)


def _skip_reason(name: str, checker: Checker, case: Case) -> str:
    """Why it is skipped; empty: it is not. Who names an invariant wants it whatever the load is."""
    able = case.profile.capabilities
    for need in checker.needs:
        if need == "stream" and able.stream == "none":
            return f"skipped: target {case.profile.name} has no streams"
        if need == "regions" and (len(case.profile.regions) < 2 or not able.regions):
            return f"skipped: target {case.profile.name} has one region"
        if need not in ("stream", "regions") and not getattr(able, need):
            return f"skipped: target {case.profile.name} lacks {need}"
    planned = [rate for rate in checker.loads if case.scenario.load.asks_for(rate)]
    if checker.loads and not planned and name not in case.scenario.expect.get("invariants", ()):
        return f"skipped: the load of the scenario has no {' or '.join(checker.loads)}"
    return checker.skip(case) if checker.skip is not None else ""
