"""What vanished from the readings of all readers, and the sentences that tell of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, story
from harness.judge.readings import Ints, Readings, survey
from harness.judge.sweep import Sweep, Vanished
from harness.judge.trial import Trial

NOTHING: tuple[Ints, Ints] = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def find_vanished(
    trial: Trial, readings: Readings, users: Ints, stable: tuple[Ints, Ints] = NOTHING
) -> tuple[int, list[Vanished]]:
    """(number of times a known item had to be shown, what was not). `users`: the user of each reading."""
    counted = survey(readings, trial.ignored_by_all, stable)
    particular = np.unique(readings.reader[np.isin(users, list(trial.particular))])
    swept = np.union1d(counted.suspects, particular)
    observations = int(counted.expected.sum() - counted.expected[swept].sum())
    vanished: list[Vanished] = []
    for reader in swept.tolist():
        user = int(users[np.searchsorted(readings.reader, reader)])
        sweep = Sweep(stable[1][stable[0] == reader].tolist(), trial.ignored(user))
        vanished += sweep.run(readings.of(reader))
        observations += sweep.observations
    return observations, vanished


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
    sentences = []
    for v in first:
        user, session, region, sent, _ = facts[v.op]
        seen = facts[v.seen_op][4] if v.seen_op else -1
        sentences.append(
            story(
                trial.case,
                Moment(seen, f"post {names[v.item]} {'seen' if v.seen_op else 'there'}"),
                Moment(sent, f"missing from the {what} of user {user} ({session}) in {region}"),
            )
        )
    return sentences
