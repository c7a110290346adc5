"""2. No phantom: every visible post was written, with the text, author and time that all reads agree on.

Formally: each item of a read with a timestamp inside the run is an acknowledged post, or matches the author and text
of a post with outcome info. One id has one author and one text, everywhere. No read that was answered before a post was
first sent (by more than the clocks' error) shows it.
Items older than the run cannot be looked up (the target had them before); such an item is a phantom when its author is
one whom the reader never followed, or when it was seen in one read only although at least 3 other undegraded reads by
followers of its author cover its place without it.

Scope: all reads. The rules on old items need the population's graph and a target started for this run; authors whose
edge to the reader changed and withdrawn posts are left out; readers who joined during the run contradict nobody.
Cost: items grouped by post, once; old items x pages of their authors' followers where the graph is known.
Inconclusive: no item was read.
"""

from __future__ import annotations

from harness.judge import graph
from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, story
from harness.judge.tables import WITHDRAWALS
from harness.judge.trial import Checker, Finding, Trial

_MISSED_BY = 3
"""reads that must contradict an old item seen once: a lone racing read proves nothing"""

# One row a post: who and what the reads tell it is.
_TOLD = """
CREATE OR REPLACE TEMP TABLE told AS
SELECT s.pid, min(i.first) AS op, max(i.last) = min(i.first) AS lone, min(s.ts_us) AS ts_us,
       min(s.author) FILTER (s.author >= 0) AS author, max(s.author) FILTER (s.author >= 0) AS author_too,
       min(s.hash) FILTER (s.hash <> 0) AS hash, max(s.hash) FILTER (s.hash <> 0) AS hash_too
FROM said s JOIN (SELECT number, min(op) AS first, max(op) AS last FROM item GROUP BY number) i ON i.number = s.number
GROUP BY s.pid
"""
# A post without an answer may be older by its timestamp than the first acknowledged one: still it is of this run.
_UNKNOWN = """
CREATE OR REPLACE TEMP TABLE unknown AS
SELECT s.*, coalesce(s.ts_us < (SELECT min(ts_us) FROM post WHERE ts_us > 0), true) AND NOT unanswered AS old
FROM (
  SELECT s.*, EXISTS (
    SELECT 1 FROM op o WHERE o.kind = 'post' AND o.outcome = 'info' AND o."user" = s.author
      AND (s.hash IS NULL OR o.text_hash = 0 OR o.text_hash = s.hash)) AS unanswered
  FROM told s ANTI JOIN post p ON p.pid = s.pid
) s
"""
_MADE_UP = """
SELECT pid, op, 'that nobody wrote' FROM unknown WHERE NOT old AND NOT unanswered
"""
# Only pages that begin above, or at, a post sent after their answer can show one. (Materialized, or the planner begins
# with all times against all others.)
_FORETOLD = """
WITH latest AS (
  SELECT pid, max(sent_ns) OVER (ORDER BY pid) AS sent_ns FROM post
), suspect AS (
  SELECT g.op, g.done_ns FROM page g ASOF JOIN latest l ON g.high >= l.pid WHERE g.done_ns + $error < l.sent_ns
  UNION ALL SELECT id, done_ns FROM op WHERE kind = 'feed_new' AND outcome = 'ok'
), shown AS MATERIALIZED (
  SELECT i.op, i.pid, s.done_ns FROM item i JOIN suspect s ON s.op = i.op
)
SELECT s.pid, min(s.op), 'that was not written yet' FROM shown s JOIN post p ON p.pid = s.pid
WHERE s.done_ns + $error < p.sent_ns GROUP BY s.pid
"""
_CHANGED = """
SELECT s.pid, s.op, CASE WHEN s.author <> s.author_too OR s.author <> p.author
                         THEN 'whose author differs from the one who wrote it'
                         ELSE 'whose text is not what was written' END
FROM told s LEFT JOIN post p ON p.pid = s.pid
WHERE s.hash <> s.hash_too OR s.author <> s.author_too OR (p.hash <> 0 AND s.hash <> p.hash) OR s.author <> p.author
"""
_NOT_FOLLOWED = """
WITH pair AS (
  SELECT DISTINCT u.pid, u.author, g."user", u.op FROM unknown u JOIN item i ON i.pid = u.pid JOIN page g ON g.op = i.op
  WHERE u.old AND u.author IS NOT NULL AND g."user" <> u.author
)
SELECT DISTINCT p.pid, p.op, 'whose author user ' || p."user" || ' never followed' FROM pair p
ANTI JOIN base b ON b.follower = p."user" AND b.author = p.author
ANTI JOIN change c ON c.follower = p."user" AND c.author = p.author
"""
_CONTRADICTED = f"""
WITH lone AS (
  SELECT u.pid, u.author, u.op FROM unknown u
  WHERE u.old AND u.lone AND u.author IS NOT NULL
    AND u.pid NOT IN (SELECT k.pid FROM op o JOIN post_id k ON k.id = o.post WHERE o.kind IN {WITHDRAWALS})
), reader AS (
  SELECT l.pid, l.op, b.follower AS "user" FROM lone l JOIN base b ON b.author = l.author
  SEMI JOIN page g ON g."user" = b.follower
  ANTI JOIN change c ON c.follower = b.follower AND c.author = b.author
  ANTI JOIN late_user n ON n."user" = b.follower
  UNION SELECT pid, op, author FROM lone
)
SELECT r.pid, r.op,
       'that one read shows and ' || count(*) || ' others by followers of its author, covering its place, do not'
FROM reader r
JOIN page g ON g."user" = r."user" AND r.pid >= g.lo AND r.pid < g.hi AND g.op <> r.op AND NOT g.degraded
GROUP BY r.pid, r.op HAVING count(*) >= $missed_by
"""


def check(trial: Trial) -> Finding:
    """Compare what reads show with what was written."""
    trial.con.execute(_TOLD)
    trial.con.execute(_UNKNOWN)
    found = trial.rows(_MADE_UP) + trial.rows(_CHANGED) + trial.rows(_FORETOLD, error=trial.case.clock_error_ns)
    if _knows_old_posts(trial):
        found += trial.rows(_NOT_FOLLOWED) + trial.rows(_CONTRADICTED, missed_by=_MISSED_BY)
    phantoms = {pid: (op, what) for pid, op, what in reversed(found)}
    posts, old = trial.rows("SELECT (SELECT count(*) FROM told), (SELECT count(*) FROM unknown WHERE old)")[0]
    return Finding(
        observations=posts,
        violations=len(phantoms),
        evidence=_sentences(trial, phantoms),
        note=f"{old:,} of the posts are older than the run" if old else "",
    )


def _knows_old_posts(trial: Trial) -> bool:
    return trial.case.scenario.population.joined == "all" and graph.knows_all_follows(trial.con, trial.case)


def _sentences(trial: Trial, phantoms: dict[int, tuple[int, str]]) -> list[str]:
    rows = trial.rows(
        f"""SELECT k.pid, k.id, o."user", o.region, o.done_ns, o.kind FROM post_id k
            JOIN item i ON i.pid = k.pid JOIN op o ON o.id = i.op
            WHERE k.pid IN (SELECT unnest($pids::BIGINT[]))
            QUALIFY row_number() OVER (PARTITION BY k.pid ORDER BY o.done_ns) = 1
            ORDER BY o.done_ns LIMIT {EVIDENCE_LIMIT}""",
        pids=list(phantoms),
    )
    return [
        story(
            trial.case,
            Moment(done, f"post {post} {phantoms[pid][1]} in the read ({kind}) of user {user} in {region}"),
        )
        for pid, post, user, region, done, kind in rows
    ]


CHECKER = Checker(check)
