"""12. Cursor completeness: a walk shows every post that was there before it began; its pages neither overlap nor skip.

Formally: let K be what earlier finished reads of the same user in the same region showed, and posts older than the run
that any two of his reads show. Each undegraded walk of at least two pages shows every member of K that lies between its
top and the end of its last page; and each page begins below the end of the page before it.

Scope: pages 0, 1, 2 ... all successful; posts that arrive during the walk may or may not be in it; deleted posts,
changed edges and posts beyond the newest 800 arrivals are left out.
Inconclusive: no walk of two pages over known posts.
"""

from __future__ import annotations

from itertools import groupby

from harness.judge.case import EVIDENCE_LIMIT, FOREVER_NS
from harness.judge.evidence import vanished_sentences
from harness.judge.sweep import Reading, Sweep, Vanished
from harness.judge.trial import Checker, Finding, Trial

_WALKS = """
SELECT w."user", w.region, w.walk, w.start_ns, w.done_ns, w.lo, w.pages > 1 AND w.whole AS judged
FROM walk w SEMI JOIN (SELECT DISTINCT "user", region FROM walk WHERE pages > 1) u
  ON u."user" = w."user" AND u.region = w.region
WHERE NOT w.degraded ORDER BY w."user", w.region, w.start_ns
"""
_PAGES = """
SELECT g.walk, g.op FROM page g JOIN walk w ON w.walk = g.walk
WHERE NOT w.degraded AND w.pages > 1 ORDER BY g.walk, g.page
"""
_OLD = """
SELECT g."user", g.region, i.pid FROM item i JOIN page g ON g.op = i.op
SEMI JOIN (SELECT DISTINCT "user", region FROM page WHERE page > 0) u ON u."user" = g."user" AND u.region = g.region
JOIN post_id k ON k.pid = i.pid
WHERE k.ts_us < (SELECT min(ts_us) FROM post WHERE ts_us > 0) AND NOT g.degraded
GROUP BY g."user", g.region, i.pid HAVING count(DISTINCT g.walk) > 1
"""
_OVERLAP = f"""
SELECT "user", region, page, sent_ns FROM (
  SELECT *, lag(low) OVER w AS before, lag(page) OVER w AS page_before FROM page
  WINDOW w AS (PARTITION BY walk ORDER BY page)
) WHERE page_before = page - 1 AND high >= before ORDER BY sent_ns LIMIT {EVIDENCE_LIMIT}
"""


def check(trial: Trial) -> Finding:
    """Sweep each user's walks for known posts they skip, and look for pages that overlap."""
    pages: dict[int, list[int]] = {}
    for walk, op in trial.rows(_PAGES):
        pages.setdefault(walk, []).append(op)
    old = _old_posts(trial)
    observations, walks = 0, 0
    vanished: list[Vanished] = []
    for (user, region), rows in groupby(trial.rows(_WALKS), key=lambda row: row[:2]):
        readings = [_reading(trial, pages, *row[2:]) for row in rows]
        sweep = Sweep(stable=old.get((user, region), ()), ignored=trial.ignored(user))
        vanished += sweep.run(readings)
        observations += sweep.observations
        walks += sum(r.judged for r in readings)
    overlaps = trial.rows(_OVERLAP)
    return Finding(
        observations=observations,
        violations=len(vanished) + len(overlaps),
        evidence=vanished_sentences(trial, vanished, "walk")
        + [
            f"page {page} of user {user} in {region} at {trial.case.at(sent)} overlaps the page before it"
            for user, region, page, sent in overlaps
        ],
        note=f"{walks:,} walks of two pages or more",
    )


def _reading(
    trial: Trial, pages: dict[int, list[int]], walk: int, start_ns: int, done_ns: int, lo: int, judged: bool
) -> Reading:
    items = [pid for op in pages.get(walk, [walk]) for pid in trial.shown.of(op)]
    return Reading(walk, start_ns, done_ns, lo, FOREVER_NS, items, judged)


def _old_posts(trial: Trial) -> dict[tuple[int, str], set[int]]:
    """(user, region) -> posts from before the run that at least two of his walks show."""
    if trial.case.scenario.population.joined != "all":
        return {}
    old: dict[tuple[int, str], set[int]] = {}
    for user, region, pid in trial.rows(_OLD):
        old.setdefault((user, region), set()).add(pid)
    return old


CHECKER = Checker(check, needs=("paging",))
