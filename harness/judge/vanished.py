"""What vanished from the readings of all readers, and the sentences that tell of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, story
from harness.judge.readings import NOTHING, Bools, Ints, Pairs, Readings, survey
from harness.judge.sweep import Sweep, Vanished
from harness.judge.trial import Shown, Trial

BATCH = 400_000
"""reads and items looked at together: few enough to stay in the processor's cache"""


@dataclass(frozen=True)
class Looks:
    """Readings without their items; as `Readings`, but that reading k shows what `reads[ends[k - 1]:ends[k]]` show."""

    user: Ints
    reader: Ints
    op: Ints
    start_ns: Ints
    done_ns: Ints
    lo: Ints
    hi: Ints
    judged: Bools
    reads: Ints
    """ops"""
    ends: Ints

    def batches(self, shown: Shown) -> Iterator[Readings]:
        """The readings with their items, some readers at a time."""
        starts = np.append(0, self.ends)
        size = np.append(0, np.cumsum(shown.lengths(self.reads) + 1))[starts]
        first = 0
        while first < len(self.reader):
            full = min(int(np.searchsorted(size, size[first] + BATCH)), len(self.reader)) - 1
            end = int(np.searchsorted(self.reader, self.reader[max(first, full)], side="right"))
            items, item_ends = shown.gather(self.reads[starts[first] : starts[end]])
            cut = slice(first, end)
            yield Readings(
                reader=self.reader[cut],
                op=self.op[cut],
                start_ns=self.start_ns[cut],
                done_ns=self.done_ns[cut],
                lo=self.lo[cut],
                hi=self.hi[cut],
                judged=self.judged[cut],
                items=items,
                ends=np.append(0, item_ends)[self.ends[cut] - starts[first]],
            )
            first = end


def find_vanished(trial: Trial, looks: Looks, stable: Pairs = NOTHING) -> tuple[int, list[Vanished]]:
    """(number of times a known item had to be shown, what was not)."""
    readers, first = np.unique(looks.reader, return_index=True)
    users = looks.user[first]
    observations, vanished = 0, list[Vanished]()
    for readings in looks.batches(trial.shown):
        mine = (readers >= readings.reader[0]) & (readers <= readings.reader[-1])
        counts, pids = trial.ignored_by(users[mine])
        own = (stable[0] >= readings.reader[0]) & (stable[0] <= readings.reader[-1])
        known = stable[0][own], stable[1][own]
        counted = survey(readings, trial.ignored_by_all, known, (np.repeat(readers[mine], counts), pids))
        observations += int(counted.expected.sum() - counted.expected[counted.suspects].sum())
        for reader in counted.suspects.tolist():
            user = int(users[np.searchsorted(readers, reader)])
            sweep = Sweep(known[1][known[0] == reader].tolist(), trial.ignored(user))
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
