"""Whole runs: a legal one is never accused, and each of the stack's planted defects turns its checker red."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from benchmarks._judge_model import Model, Size
from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.op import Op, OpKind, text_hash
from harness.core.verdict import CheckKind, Outcome, Verdict
from harness.judge.judge import judge
from harness.record.frames import read_segment
from harness.record.history import HistoryWriter
from harness.record.run_directory import RunDirectory

pytestmark = pytest.mark.slow

Ops = list[Op]
SMALL = Size(users=200, listeners=40, panel=8, posts_per_s=12.0, reads_per_s=40.0, phase_s=8.0, final_readers=24)


def made_run(folder: Path, seed: int = 1) -> RunDirectory:
    run = RunDirectory(folder / "run")
    Model(run, SMALL, seed).make()
    return run


def spoil(run: RunDirectory, change: Callable[[Ops], Ops]) -> None:
    segment = run.history / "model.jsonl"
    ops = list(read_segment(segment))
    segment.unlink()
    with HistoryWriter(segment) as history:
        for op in change(ops):
            history.append(op)


def failed(verdict: Verdict) -> set[str]:
    return {c.name for c in verdict.checks if c.verdict is Outcome.FAIL}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_legal_run_passes(tmp_path, seed):
    run = made_run(tmp_path, seed)
    verdict = judge(run)
    assert verdict.verdict is Outcome.PASS, [c for c in verdict.checks if c.verdict is not Outcome.PASS]
    skipped = {c.name for c in verdict.checks if c.skipped}
    assert skipped == {"witness", "recovery", "causal", "cursor_integrity", "eligibility"}
    assert all(c.observations for c in verdict.checks if not c.skipped)
    assert verdict.counts["posts_acked"] > 0
    assert verdict.counts["ops"]["feed"]["ok"] > 0
    assert [p["name"] for p in verdict.phases] == ["warmup", "baseline", "middle", "recovered"]
    assert sorted(p.name for p in run.path.iterdir() if p.name.startswith(".")) == []


def test_a_busy_legal_run_passes_and_no_checker_is_left_out(tmp_path):
    run = RunDirectory(tmp_path / "run")
    Model(run, replace(SMALL, phase_s=12.0, busy=True)).make()
    verdict = judge(run)
    assert verdict.verdict is Outcome.PASS, [c for c in verdict.checks if c.verdict is not Outcome.PASS]
    assert {c.name for c in verdict.checks if c.skipped} == set()
    assert all(c.observations for c in verdict.checks)


def test_judging_again_gives_the_same_verdict(tmp_path):
    run = made_run(tmp_path)
    assert judge(run) == judge(run)


def _pages(ops: Ops, at_least: int = 2) -> Ops:
    return [op for op in ops if op.kind is OpKind.FEED and len(op.ids) >= at_least]


def _without(op: Op, gone: set[str]) -> None:
    kept = [k for k, post in enumerate(op.ids) if post not in gone]
    for name in ("ids", "item_ts_us", "item_authors", "item_hashes"):
        setattr(op, name, [getattr(op, name)[k] for k in kept])


def _insert(op: Op, place: int, post: str, ts_us: int, author: int, hashed: int) -> None:
    op.ids.insert(place, post)
    op.item_ts_us.insert(place, ts_us)
    op.item_authors.insert(place, author)
    op.item_hashes.insert(place, hashed)


def lose_after_ack(ops: Ops) -> Ops:
    """Every 50th acknowledged post never arrives anywhere."""
    lost = {op.post for op in [op for op in ops if op.kind is OpKind.POST][49::50]}
    for op in _pages(ops, 1):
        _without(op, lost)
    return [op for op in ops if not (op.kind is OpKind.EVENT and op.post in lost)]


def no_wal(ops: Ops) -> Ops:
    """A cache loss in mid-run: of the posts of the 3 s before it, nothing is left afterwards."""
    ends = [op.done_ns for op in ops if op.kind is OpKind.POST]
    crash = (min(ends) + max(ends)) // 2
    lost = {op.post for op in ops if op.kind is OpKind.POST and crash - 3 * NS_PER_S < op.done_ns < crash}
    for op in _pages(ops, 1):
        if op.sent_ns > crash:
            _without(op, lost)
    return ops


def duplicate_entry(ops: Ops) -> Ops:
    for op in _pages(ops)[19::20]:
        k = len(op.ids) // 2
        _insert(op, k, op.ids[k], op.item_ts_us[k], op.item_authors[k], op.item_hashes[k])
    return ops


def phantom_post(ops: Ops) -> Ops:
    for number, op in enumerate(_pages(ops)[19::20]):
        k = len(op.ids) // 2
        hashed = text_hash("nobody wrote this")
        _insert(op, k, f"phantom-{number}", op.item_ts_us[k] + 1, op.item_authors[k], hashed)
    return ops


def unordered_page(ops: Ops) -> Ops:
    for op in _pages(ops)[9::10]:
        for items in (op.ids, op.item_ts_us, op.item_authors, op.item_hashes):
            items[0], items[1] = items[1], items[0]
    return ops


def cursor_skip(ops: Ops) -> Ops:
    for op in _pages(ops):
        if op.page > 0:
            _without(op, {op.ids[0]})
    return ops


def skip_notify(ops: Ops) -> Ops:
    events = [op.id for op in ops if op.kind is OpKind.EVENT]
    return [op for op in ops if op.id not in set(events[19::20])]


def reconnected(ops: Ops, resumes: bool) -> Ops:
    """Every listener's stream breaks for 2 s in mid-run; what came in between follows after the reconnect, or never."""
    times = [op.done_ns for op in ops if op.kind is OpKind.POST]
    cut = (min(times) + max(times)) // 2
    again = cut + 2 * NS_PER_S
    ids = itertools.count(max(op.id for op in ops) + 1)
    made = []
    for op in ops:
        if op.kind is OpKind.EVENT and cut <= op.done_ns < again + 10 * NS_PER_MS:
            if not resumes:
                continue
            op.due_ns = op.sent_ns = op.done_ns = again + 10 * NS_PER_MS
        made.append(op)
        if op.kind is OpKind.STREAM_OPEN:
            times_of = {"due_ns": cut, "sent_ns": cut, "done_ns": cut}
            made.append(msgspec.structs.replace(op, id=next(ids), kind=OpKind.STREAM_END, token="", **times_of))
            times_of = {"due_ns": again, "sent_ns": again, "done_ns": again + NS_PER_MS}
            made.append(msgspec.structs.replace(op, id=next(ids), since=op.token, **times_of))
    return made


LACKING = {"author_order", "tier_equivalence", "honest_degradation", "visibility", "cross_region"}
"""invariants that a post which is not there can break as well"""
DEFECTS = [
    # defect, how its run looks, the invariant that must fail, others that may
    (lose_after_ack, "durability", LACKING | {"read_your_writes", "sse_completeness"}),
    (no_wal, "durability", LACKING | {"read_your_writes", "monotonic_reads", "cursor_completeness", "sse_soundness"}),
    (duplicate_entry, "no_duplicates", set()),
    (phantom_post, "no_phantom", set()),
    (unordered_page, "order", set()),
    (cursor_skip, "cursor_completeness",
     LACKING | {"durability", "read_your_writes", "monotonic_reads", "sse_soundness", "convergence"}),
    (skip_notify, "sse_completeness", set()),
    (lambda ops: reconnected(ops, resumes=False), "sse_completeness", set()),
]  # fmt: skip


@pytest.mark.parametrize(("change", "must", "may"), DEFECTS)
def test_a_defect_is_caught_by_its_checker(tmp_path, change, must, may):
    run = made_run(tmp_path)
    spoil(run, change)
    verdict = judge(run)
    assert verdict.verdict is Outcome.FAIL
    assert must in failed(verdict)
    assert failed(verdict) <= {must} | may
    [check] = [c for c in verdict.checks if c.name == must]
    assert 0 < len(check.evidence) <= 20
    assert verdict.checks[0].verdict is Outcome.FAIL


def test_streams_that_resume_are_legal(tmp_path):
    run = made_run(tmp_path)
    spoil(run, lambda ops: reconnected(ops, resumes=True))
    verdict = judge(run)
    assert verdict.verdict is Outcome.PASS, failed(verdict)
    [check] = [c for c in verdict.checks if c.name == "sse_completeness"]
    assert "0 of them acknowledged between" not in check.reason


def test_a_lost_load_process_makes_a_good_run_inconclusive(tmp_path):
    run = made_run(tmp_path)
    run.generator.write_bytes(b'{"process":"locust-0","completed":false,"errors":["the process was lost"]}\n')
    verdict = judge(run)
    assert verdict.verdict is Outcome.INCONCLUSIVE
    assert verdict.checks[0].kind is CheckKind.GENERATOR
    assert "locust-0 did not finish: the process was lost" in verdict.checks[0].reason


def lose_the_last_rows(ops: Ops) -> Ops:
    """Half of the authors were served by a process that was killed in mid-run, with the rows of its last second."""
    ends = [op.done_ns for op in ops if op.kind is OpKind.POST]
    killed = (min(ends) + max(ends)) // 2
    return [
        op for op in ops if not (op.kind is OpKind.POST and op.user % 2 and killed - NS_PER_S < op.done_ns < killed)
    ]


def lose_a_process(run: RunDirectory) -> None:
    with run.generator.open("ab") as file:
        file.write(b'{"process":"locust-1","completed":false,"errors":["the process was lost"]}\n')


def test_what_a_lost_process_did_last_is_held_against_nobody(tmp_path):
    run = made_run(tmp_path)
    spoil(run, lose_the_last_rows)
    assert "no_phantom" in failed(judge(run))
    lose_a_process(run)
    verdict = judge(run)
    assert verdict.verdict is Outcome.INCONCLUSIVE
    [check] = [c for c in verdict.checks if c.name == "no_phantom"]
    assert check.evidence
    assert "not proven: locust-1 was lost" in check.reason


def test_what_is_wrong_in_any_case_stays_a_failure_when_a_process_is_lost(tmp_path):
    run = made_run(tmp_path)
    spoil(run, lambda ops: duplicate_entry(unordered_page(lose_the_last_rows(ops))))
    lose_a_process(run)
    assert failed(judge(run)) == {"no_duplicates", "order"}


def test_a_slow_answer_stays_a_failure_when_a_process_is_lost(tmp_path):
    """Its row is there. How many ops there were is another matter: those of the lost process are missing."""
    run = made_run(tmp_path)
    lose_a_process(run)
    verdict = judge(run, {"feed_read": ["p(50) <= 1us", "count > 1000000"]})
    found = {c.name: c.verdict for c in verdict.checks if c.phase == "baseline"}
    assert found == {"feed_read p(50) <= 1us": Outcome.FAIL, "feed_read count > 1000000": Outcome.INCONCLUSIVE}


def test_a_run_without_history_is_inconclusive(tmp_path):
    run = made_run(tmp_path)
    spoil(run, lambda ops: [])
    verdict = judge(run)
    assert verdict.verdict is Outcome.INCONCLUSIVE
    assert not failed(verdict)


def test_series_for_the_report(tmp_path):
    run = made_run(tmp_path)
    judge(run)
    series = msgspec.json.decode(run.series.read_bytes())
    assert set(series) == {"t0_ns", "per_second", "phases", "faults", "percentiles", "staleness"}
    rows = series["per_second"]["post_to_event"]["us-east|local"]
    assert all(len(row) == 5 for row in rows)
    assert rows == sorted(rows)
    assert all(len(row) == 6 for row in series["per_second"]["feed_read"]["us-east"])
    curve = series["percentiles"]["post_to_event|local|ordinary|baseline"]
    assert [p for p, _ in curve] == sorted(p for p, _ in curve)
    assert [ms for _, ms in curve] == sorted(ms for _, ms in curve)
