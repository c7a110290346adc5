"""12. Cursor completeness: a walk shows every post that was there before it began; its pages neither overlap nor skip.

Formally: let K be what earlier finished reads of the same user in the same region showed, and posts older than the run
that any two of his reads show. Each undegraded walk of at least two pages shows every member of K that lies between its
top and the end of its last page; and each page begins below the end of the page before it.

Scope: pages 0, 1, 2 ... all successful; posts that arrive during the walk may or may not be in it; withdrawn posts,
changed edges and posts beyond the newest 800 arrivals are left out.
Cost: items of walks sorted by user and post, as in `monotonic_reads`; items of old posts grouped by reader.
Inconclusive: no walk of two pages over known posts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.judge.case import EVIDENCE_LIMIT, FOREVER_NS
from harness.judge.evidence import Moment, story
from harness.judge.readings import NOTHING, Pairs
from harness.judge.trial import Checker, Finding, Trial
from harness.judge.vanished import Looks, find_vanished, vanished_sentences

_USERS = """(SELECT "user", region, dense_rank() OVER (ORDER BY "user", region) - 1 AS reader
  FROM walk WHERE pages > 1 GROUP BY "user", region)"""
_WALKS = f"""
SELECT u.reader, w."user", w.walk, w.start_ns, w.done_ns, w.lo, w.pages > 1 AND w.whole AS judged
FROM walk w JOIN {_USERS} u ON u."user" = w."user" AND u.region = w.region
WHERE NOT w.degraded ORDER BY u.reader, w.start_ns, w.walk
"""
_PAGES = f"""
SELECT g.op, g.walk FROM page g JOIN walk w ON w.walk = g.walk
JOIN {_USERS} u ON u."user" = w."user" AND u.region = w.region
WHERE NOT w.degraded ORDER BY u.reader, w.start_ns, w.walk, g.page
"""
# The first condition leaves out most items before anything is joined.
_OLD = f"""
SELECT u.reader, i.pid FROM (SELECT * FROM said WHERE ts_us > 0 AND ts_us < $first) s
JOIN item i ON i.number = s.number JOIN page g ON g.op = i.op
JOIN {_USERS} u ON u."user" = g."user" AND u.region = g.region
ANTI JOIN (SELECT "user", text_hash FROM op WHERE kind = 'post' AND outcome = 'info') unanswered
  ON unanswered."user" = s.author AND unanswered.text_hash = s.hash
WHERE NOT g.degraded
GROUP BY u.reader, i.pid HAVING min(g.walk) <> max(g.walk)
"""
_OVERLAP = f"""
SELECT "user", region, page, sent_ns FROM (
  SELECT *, lag(low) OVER w AS before, lag(page) OVER w AS page_before FROM page
  WINDOW w AS (PARTITION BY walk ORDER BY page)
) WHERE page_before = page - 1 AND high >= before ORDER BY sent_ns LIMIT {EVIDENCE_LIMIT}
"""


def check(trial: Trial) -> Finding:
    """Find known posts that a user's walks skip, and pages that overlap."""
    walks = trial.columns(_WALKS)
    observations, vanished = find_vanished(trial, _looks(trial, walks), _old_posts(trial))
    overlaps = trial.rows(_OVERLAP)
    return Finding(
        observations=observations,
        violations=len(vanished) + len(overlaps),
        evidence=vanished_sentences(trial, vanished, "walk")
        + [
            story(
                trial.case,
                Moment(sent, f"page {page} of user {user} in {region} overlaps the page before it,"),
            )
            for user, region, page, sent in overlaps
        ],
        note=f"{int(walks['judged'].sum()):,} walks of two pages or more",
    )


def _looks(trial: Trial, walks: dict[str, Any]) -> Looks:
    """A walk as one reading, from the top to the end of its last page."""
    pages = trial.columns(_PAGES)
    last_page = np.append(np.diff(pages["walk"]) != 0, True)[: len(pages["walk"])]
    return Looks(
        user=walks["user"],
        reader=walks["reader"],
        op=walks["walk"],
        start_ns=walks["start_ns"] - trial.case.clock_error_ns,
        done_ns=walks["done_ns"],
        lo=walks["lo"],
        hi=np.full(len(walks["lo"]), FOREVER_NS, dtype=np.int64),
        judged=walks["judged"],
        reads=pages["op"],
        ends=np.flatnonzero(last_page) + 1,
    )


def _old_posts(trial: Trial) -> Pairs:
    """(readers, posts from before the run that at least two of his walks show)."""
    if trial.case.scenario.population.joined != "all":
        return NOTHING
    rows = trial.columns(_OLD, first=trial.number("SELECT min(ts_us) FROM post WHERE ts_us > 0"))
    return rows["reader"], rows["pid"]


CHECKER = Checker(check, needs=("paging",))
