"""3. No duplicates: a post stands at most once in a walk; one idempotency key makes one post.

Formally: within one cursor walk (its pages in order) and within one answer of feed/new no id occurs twice; all
acknowledgements for one (region, author, idempotency key) carry the same id.

Scope: all successful reads, degraded ones too; a page that was asked for again counts once. Keys bind per region.
Cost: neighbours of all items once; items are joined for the walks only in which keys do not descend.
Inconclusive: no item was read.
"""

from __future__ import annotations

from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, story
from harness.judge.trial import Checker, Finding, Trial

# Where keys strictly descend, from page to page too, nothing can stand twice: only other walks are looked into.
_REPEATED = """
CREATE OR REPLACE TEMP TABLE repeated AS
WITH suspect AS (SELECT unnest($suspects::BIGINT[]) AS op),
boundary AS (
  SELECT walk, high, lag(low) OVER (PARTITION BY walk ORDER BY page) AS before FROM page
), looked_into AS (
  SELECT g.op, g.walk FROM page g WHERE g.walk IN (
    SELECT walk FROM boundary WHERE high >= before
    UNION SELECT p.walk FROM page p SEMI JOIN suspect s ON s.op = p.op)
  UNION ALL
  SELECT o.id, o.id FROM op o SEMI JOIN suspect s ON s.op = o.id WHERE o.kind = 'feed_new'
)
SELECT l.walk, i.pid, count(*) AS times, min(i.op) AS op, max(i.op) AS op_too
FROM item i JOIN looked_into l ON l.op = i.op GROUP BY l.walk, i.pid HAVING count(*) > 1
"""
_KEYS = """
SELECT "user", region, idempotency_key, count(DISTINCT post), min(post), max(post), max(done_ns) FROM op
WHERE kind = 'post' AND outcome = 'ok' AND idempotency_key <> '' AND post <> ''
GROUP BY "user", region, idempotency_key HAVING count(DISTINCT post) > 1 ORDER BY max(done_ns)
"""


def check(trial: Trial) -> Finding:
    """Look for posts shown twice and keys that made two posts."""
    trial.con.execute(_REPEATED, {"suspects": trial.shown.rising.tolist()})
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
        story(
            trial.case,
            Moment(
                done,
                f"post {post} stands {times} times in the {'page' if one_page else 'walk'} ({kind}) of user {user} "
                f"in {region}",
            ),
        )
        for post, times, user, region, kind, done, one_page in rows
    ]


def _key_sentence(trial: Trial, row: tuple[int, str, str, int, str, str, int]) -> str:
    user, region, key, count, first, last, done = row
    what = f"idempotency key {key} of user {user} in {region} has made {count} posts, {first} and {last},"
    return story(trial.case, Moment(done, what))


CHECKER = Checker(check)
