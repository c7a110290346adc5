"""3. No duplicates: a post stands at most once in a walk; one idempotency key makes one post.

Formally: within one cursor walk (its pages in order) and within one answer of feed/new no id occurs twice; all
acknowledgements for one (region, author, idempotency key) carry the same id.

Scope: all successful reads, degraded ones too; a page that was asked for again counts once. Keys bind per region.
Inconclusive: no item was read.
"""

from __future__ import annotations

from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.trial import Checker, Finding, Trial

_REPEATED = """
CREATE OR REPLACE TEMP TABLE repeated AS
SELECT walk, pid, count(*) AS times, min(op) AS op, max(op) AS op_too FROM (
  SELECT coalesce(g.walk, i.op) AS walk, i.pid, i.op FROM item i LEFT JOIN page g ON g.op = i.op
  ANTI JOIN (SELECT o.id FROM op o ANTI JOIN page p ON p.op = o.id WHERE o.kind = 'feed') again ON again.id = i.op
) GROUP BY walk, pid HAVING count(*) > 1
"""
_KEYS = """
SELECT "user", region, idempotency_key, count(DISTINCT post), min(post), max(post), max(done_ns) FROM op
WHERE kind = 'post' AND outcome = 'ok' AND idempotency_key <> '' AND post <> ''
GROUP BY "user", region, idempotency_key HAVING count(DISTINCT post) > 1 ORDER BY max(done_ns)
"""


def check(trial: Trial) -> Finding:
    """Look for posts shown twice and keys that made two posts."""
    trial.con.execute(_REPEATED)
    repeated = trial.number("SELECT count(*) FROM repeated")
    keys = trial.rows(_KEYS)
    items, walks = trial.rows("SELECT (SELECT count(*) FROM item), (SELECT count(*) FROM walk)")[0]
    return Finding(
        observations=items,
        violations=repeated + len(keys),
        evidence=_sentences(trial) + [_key_sentence(trial, row) for row in keys],
        note=f"{walks:,} walks",
    )


def _sentences(trial: Trial) -> list[str]:
    rows = trial.rows(
        f"""SELECT k.id, r.times, o."user", o.region, o.kind, o.done_ns, r.op = r.op_too FROM repeated r
            JOIN op o ON o.id = r.op JOIN post_id k ON k.pid = r.pid ORDER BY o.done_ns LIMIT {EVIDENCE_LIMIT}"""
    )
    return [
        f"post {post} stands {times} times in the {'page' if one_page else 'walk'} ({kind}) of user {user} in {region} "
        f"at {trial.case.at(done)}"
        for post, times, user, region, kind, done, one_page in rows
    ]


def _key_sentence(trial: Trial, row: tuple[int, str, str, int, str, str, int]) -> str:
    user, region, key, count, first, last, done = row
    return (
        f"idempotency key {key} of user {user} in {region} made {count} posts, {first} and {last}, "
        f"the last by {trial.case.at(done)}"
    )


CHECKER = Checker(check)
