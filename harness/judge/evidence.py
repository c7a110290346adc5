"""Sentences of evidence that several checkers share."""

from __future__ import annotations

from collections.abc import Sequence

from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.sweep import Vanished
from harness.judge.trial import Trial


def vanished_sentences(trial: Trial, vanished: Sequence[Vanished], what: str) -> list[str]:
    """One sentence an item that an earlier read showed and a later `what` ("read", "walk") lacks, in time order."""
    ops = {v.op for v in vanished} | {v.seen_op for v in vanished if v.seen_op}
    rows = trial.rows(
        'SELECT id, "user", session, region, sent_ns, done_ns FROM op WHERE id IN (SELECT unnest($ops::BIGINT[]))',
        ops=list(ops),
    )
    facts = {row[0]: row[1:] for row in rows}
    first = sorted(vanished, key=lambda v: facts[v.op][3])[:EVIDENCE_LIMIT]
    names = trial.post_names(v.item for v in first)
    at = trial.case.at
    sentences = []
    for v in first:
        user, session, region, sent, _ = facts[v.op]
        seen = f"seen at {at(facts[v.seen_op][4])}" if v.seen_op else "there since before the run"
        sentences.append(
            f"post {names[v.item]}, {seen}, is missing from the {what} of user {user} ({session}) in {region} "
            f"at {at(sent)}"
        )
    return sentences
