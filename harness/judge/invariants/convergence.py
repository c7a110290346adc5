"""11. Convergence: after the last fault all regions show a user the same feed.

Formally: the k-th final walk of a user in one region and his k-th in another show the same set of posts above the
higher of their two ends, for every k, that is on all consecutive samples.

Scope: walks that began when all regions must agree (`settled_ns`); undegraded, without a hole; withdrawn posts,
changed edges and posts beyond the newest 800 arrivals are left out.
Cost: items of final walks as sets, each two regions of a user.
Inconclusive: no user has 3 consecutive samples in two regions after that time, or more than 1 % of the final reads
failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations

from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, story
from harness.judge.final_reads import failed_final_reads, settled_ns
from harness.judge.trial import Checker, Finding, Trial

IN_A_ROW = 3


@dataclass(frozen=True)
class Sample:
    """One final walk: all it showed at or above `lo`."""

    region: str
    start_ns: int
    lo: int
    items: frozenset[int]


@dataclass(frozen=True)
class Difference:
    """A post that one sample shows and the other, of the same user and round, does not."""

    user: int
    round: int
    item: int
    shown_in: str
    absent_in: str
    start_ns: int


_WALKS = """
SELECT w."user", w.region, w.walk, w.start_ns, w.lo, list(g.op) AS ops FROM walk w JOIN page g ON g.walk = w.walk
WHERE w.final AND w.whole AND NOT w.degraded AND w.start_ns >= $settled
GROUP BY ALL ORDER BY w."user", w.start_ns
"""


def check(trial: Trial) -> Finding:
    """Compare the final walks of each user across regions, round by round."""
    samples: dict[int, list[Sample]] = {}
    for user, region, _, start, lo, ops in trial.rows(_WALKS, settled=settled_ns(trial)):
        items = frozenset(pid for op in ops for pid in trial.shown.of(op)) - trial.ignored(user)
        samples.setdefault(user, []).append(Sample(region, start, lo, items))
    compared, differences, rounds = 0, [], 0
    for user, taken in samples.items():
        pairs = list(paired(taken))
        compared += len(pairs)
        rounds = max([rounds, *(k + 1 for k, _, _ in pairs)])
        differences += [d for k, one, other in pairs for d in compare(user, k, one, other)]
    few = "" if rounds >= IN_A_ROW else f"no user has {IN_A_ROW} consecutive samples in two regions"
    return Finding(
        observations=compared,
        violations=len(differences),
        evidence=_sentences(trial, sorted(differences, key=lambda d: d.start_ns)[:EVIDENCE_LIMIT]),
        note=f"up to {rounds} consecutive samples of a user",
        unproven="; ".join(part for part in (failed_final_reads(trial), few) if part),
    )


def paired(samples: Iterable[Sample]) -> Iterator[tuple[int, Sample, Sample]]:
    """(k, one, other): the k-th samples of each two regions."""
    by_region: dict[str, list[Sample]] = {}
    for sample in samples:
        by_region.setdefault(sample.region, []).append(sample)
    for one, other in combinations(sorted(by_region), 2):
        for k, (a, b) in enumerate(zip(by_region[one], by_region[other], strict=False)):
            yield k, a, b


def compare(user: int, k: int, one: Sample, other: Sample) -> Iterator[Difference]:
    """Posts above the higher end of both that only one of them shows."""
    floor = max(one.lo, other.lo)
    for a, b in ((one, other), (other, one)):
        for item in sorted(i for i in a.items - b.items if i >= floor):
            yield Difference(user, k, item, a.region, b.region, b.start_ns)


def _sentences(trial: Trial, differences: list[Difference]) -> list[str]:
    names = trial.post_names(d.item for d in differences)
    acks = dict(
        trial.rows(
            "SELECT pid, ack_ns FROM post WHERE pid IN (SELECT unnest($pids::BIGINT[]))",
            pids=[d.item for d in differences],
        )
    )
    return [
        story(
            trial.case,
            Moment(acks.get(d.item, -1), f"post {names[d.item]} written"),
            Moment(
                d.start_ns,
                f"in final sample {d.round + 1} of user {d.user} it is in the feed of {d.shown_in}, "
                f"absent from that of {d.absent_in}",
            ),
        )
        for d in differences
    ]


CHECKER = Checker(check, needs=("regions", "paging"))
