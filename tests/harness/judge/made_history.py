"""Literal histories for the checkers' tests: a few ops, times in seconds from t0, everything else defaulted.

    h = MadeHistory(tmp_path, follows={1: [7]})        # user 1 follows user 7
    h.post(7, "p1", at=1.0)                            # acknowledged at 1.01 s
    h.read(1, ["p1"], at=5.0, final=True)
    assert h.check("durability").verdict is Outcome.PASS

A post's display timestamp is the time it was sent, unless `ts` says otherwise (seconds too).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from harness.contract.profile import Capabilities, Profile, RegionUrls, Start
from harness.core.clock import NS_PER_S
from harness.core.load_rates import Load
from harness.core.op import Op, OpKind, OpOutcome, text_hash
from harness.core.scenario import FaultSpec, Phase, Population, Scenario
from harness.core.verdict import Check
from harness.judge.case import Case, Fault, LoadReport, Scrape, read_case
from harness.judge.invariants import CHECKERS
from harness.judge.judge import open_trial
from harness.judge.trial import Trial, run_checker
from harness.record.history import HistoryWriter
from harness.record.noise_file import NoiseRow
from harness.record.parquet import to_parquet
from harness.record.run_directory import RunDirectory

T0_NS = 1_000 * NS_PER_S
T0_US = 1_700_000_000_000_000
HOME, AWAY = "us-east", "ap-tokyo"


def ns(seconds: float) -> int:
    """Monotonic time of a moment of the test."""
    return T0_NS + round(seconds * NS_PER_S)


class MadeHistory:
    """A run directory in the making: one phase "calm"; shorten `baseline` for a phase "after" behind it."""

    def __init__(
        self,
        folder: Path,
        follows: Mapping[int, Sequence[int]],
        *,
        regions: Sequence[str] = (HOME, AWAY),
        joined: str = "all",
        celebrities: int = 0,
        late_celebrities: int = 0,
        newcomers: int = 0,
        able: Capabilities | None = None,
        length: float = 60.0,
        expect: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.run = RunDirectory(folder / "run").create()
        self.ops: list[Op] = []
        self.faults: list[Fault] = []
        self.load = [LoadReport(process="locust-0", kind="locust", planned=10, sent=10, completed=True)]
        self.scrapes: list[Scrape] = []
        self.noise: list[NoiseRow] = []
        self.clock_error_s = 0.0
        self.length = length
        self.baseline = length
        self.planned: list[str] = []
        self.posts: dict[str, tuple[int, int, int]] = {}
        self.walks = 0
        users = 1 + max([0, *follows, *(a for authors in follows.values() for a in authors)])
        self._population(users, follows)
        self.scenario = Scenario(
            name="made",
            about="A literal history.",
            phases=(Phase(name="calm", duration_s=length),),
            population=Population(
                users=users,
                joined=joined,
                celebrities=(1,) * celebrities,
                late_celebrities=(1,) * late_celebrities,
                newcomers=newcomers,
            ),
            load=Load(
                edges_per_s=1, deletes_per_s=1, hides_per_s=1, moderations_per_s=1, replies_per_s=1, probes_per_s=1
            ),
            expect=dict(expect or {}),
        )
        self.profile = Profile(
            name="made",
            regions={r: RegionUrls(api="http://127.0.0.1:1", stream="http://127.0.0.1:1") for r in regions},
            capabilities=able or Capabilities(),
            start=Start(command=["true"]),
            handles={"us-east.memcached": {"backend": "process"}},
        )

    def _population(self, users: int, follows: Mapping[int, Sequence[int]]) -> None:
        rows = [sorted(follows.get(u, ())) for u in range(users)]
        offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
        np.save(self.run.population / "offsets.npy", offsets)
        np.save(self.run.population / "followees.npy", np.array([a for r in rows for a in r], dtype=np.uint32))

    def op(self, kind: OpKind, user: int, at: float, took: float = 0.01, **fields: Any) -> Op:
        """One row, due and sent at `at`, done `took` later."""
        row: dict[str, Any] = {"session": f"s-{user}", "region": HOME, "outcome": OpOutcome.OK}
        times = {"due_ns": ns(at), "sent_ns": ns(at), "done_ns": ns(at + took)}
        op = Op(id=len(self.ops) + 1, kind=kind, user=user, **{**row, **times, **fields})
        self.ops.append(op)
        return op

    def post(self, author: int, name: str, at: float, *, ts: float | None = None, text: str = "", **fields: Any) -> Op:
        """A POST; `name` is its id (none when the outcome is not ok)."""
        stamp = T0_US + round((at if ts is None else ts) * 1e6)
        hashed = text_hash(text or name)
        self.posts[name] = (stamp, author, hashed)
        known = fields.get("outcome", OpOutcome.OK) is OpOutcome.OK
        shown = {"post": name, "ts_us": stamp} if known else {}
        return self.op(OpKind.POST, author, at, author=author, **{"text_hash": hashed, **shown, **fields})

    def old(self, author: int, name: str, ts: float, text: str = "") -> None:
        """A post from before the run: can be shown by reads, was written by nobody."""
        self.posts[name] = (T0_US + round(ts * 1e6), author, text_hash(text or name))

    def read(
        self,
        user: int,
        items: Sequence[str],
        at: float,
        *,
        page: int = 0,
        more: bool = False,
        kind: OpKind = OpKind.FEED,
        **fields: Any,
    ) -> Op:
        """A feed page; page 0 begins a new walk. `more`: it has a next cursor."""
        self.walks += page == 0
        known = [self.posts[i] for i in items]
        return self.op(
            kind,
            user,
            at,
            walk=self.walks,
            page=page,
            limit=50,
            next_cursor="more" if more else "",
            ids=list(items),
            **{
                "item_ts_us": [k[0] for k in known],
                "item_authors": [k[1] for k in known],
                "item_hashes": [k[2] for k in known],
                **fields,
            },
        )

    def look_up(self, user: int, name: str, at: float, *, found: bool = True, **fields: Any) -> Op:
        """A look-up of a post by its id."""
        if found:
            stamp, author, hashed = self.posts[name]
            shown = {"ids": [name], "item_ts_us": [stamp], "item_authors": [author], "item_hashes": [hashed]}
            fields = {**shown, **fields}
        return self.op(OpKind.FETCH, user, at, post=name, **fields)

    def probe(self, user: int, variant: str, at: float, items: Sequence[str] = (), **fields: Any) -> Op:
        """A page asked for with a cursor of that variant."""
        known = [self.posts[i] for i in items]
        shown = {
            "ids": list(items),
            "item_ts_us": [k[0] for k in known],
            "item_authors": [k[1] for k in known],
            "item_hashes": [k[2] for k in known],
        }
        return self.op(OpKind.PROBE, user, at, variant=variant, cursor="c", limit=50, **{**shown, **fields})

    def open(self, user: int, at: float, since: str = "", **fields: Any) -> Op:
        """A stream opens; with `since` it resumes."""
        return self.op(OpKind.STREAM_OPEN, user, at, since=since, token="r.1.0", **fields)

    def end(self, user: int, at: float) -> Op:
        """A stream ends."""
        return self.op(OpKind.STREAM_END, user, at, took=0)

    def event(self, user: int, name: str, at: float, token: str = "", **fields: Any) -> Op:
        """A new_post event; tokens rise by themselves."""
        return self.op(OpKind.EVENT, user, at, took=0, post=name, token=token or f"r.1.{len(self.ops)}", **fields)

    def fault(self, start: float, end: float | None, kind: str = "kill", handle: str = "us-east.memcached") -> Fault:
        """A fault that had its witness; `end` None: never undone."""
        row = Fault(
            id=f"f{len(self.faults)}",
            kind=kind,
            handle=handle,
            injected_ns=ns(start),
            undone_ns=None if end is None else ns(end),
            witness={"ok": True, "evidence": "connection refused"},
        )
        self.faults.append(row)
        self.planned.append(row.id)
        spec = FaultSpec(kind=kind, handle=handle, hold_s=1.0)
        phase = msgspec.structs.replace(self.scenario.phases[0], faults=(*self.scenario.phases[0].faults, spec))
        self.scenario = msgspec.structs.replace(self.scenario, phases=(phase,))
        return row

    def refused(self, at: float, why: str = "faults are forbidden: customers complain", **fields: Any) -> Fault:
        """A fault that was due but never touched anything, as the chaos schedule records it."""
        row = self.fault(at, None, **fields)
        row.inject_error = why
        row.witness = {"ok": False, "evidence": f"could not be injected: {why}"}
        row.undo = {"ok": True, "detail": "nothing was touched"}
        return row

    def store(self) -> RunDirectory:
        """Write the run directory."""
        phases = [
            {"name": "warmup", "start_ns": ns(-5), "end_ns": ns(0), "kind": "warmup"},
            {
                "name": "calm",
                "start_ns": ns(0),
                "end_ns": ns(self.baseline),
                "kind": "baseline",
                "faults": self.planned,
            },
        ]
        if self.baseline < self.length:
            phases.append({"name": "after", "start_ns": ns(self.baseline), "end_ns": ns(self.length), "kind": "fault"})
        self.run.scenario.write_bytes(msgspec.json.encode(self.scenario))
        self.run.profile.write_bytes(msgspec.json.encode(self.profile))
        self.run.phases.write_bytes(msgspec.json.encode(phases))
        for path, rows in (
            (self.run.faults, self.faults),
            (self.run.generator, self.load),
            (self.run.path / "scrapes.jsonl", self.scrapes),
            (self.run.noise, self.noise),
        ):
            path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        for older in self.run.history.iterdir():  # a changed op leaves a segment as large as it was
            older.unlink()
        segment = self.run.history / "made.jsonl"
        with HistoryWriter(segment) as history:
            for op in self.ops:
                history.append(op)
        return self.run

    def case(self) -> Case:
        """The facts, as the judge reads them."""
        return replace(read_case(self.store()), clock_error_ns=round(self.clock_error_s * NS_PER_S))

    @contextmanager
    def trial(self) -> Iterator[Trial]:
        """The tables, for tests of what the verdict does not show."""
        case = self.case()
        with open_trial(case, to_parquet(self.run)) as trial:
            yield trial

    def check(self, name: str) -> Check:
        """The result of one invariant's checker."""
        with self.trial() as trial:
            check = run_checker(name, CHECKERS[name], trial)
        assert "crashed" not in check.reason, check.reason
        return check
