"""4. Order: pages show posts newest first, by (timestamp, id), and all reads agree on every pair.

Formally: within a page, and from the last item of a page to the first of the next page of its walk, keys strictly
descend; one id carries one timestamp in every read. Together these make any two reads agree on the order of a pair.

Scope: all successful feed pages; the second showing of a post is left to the checker of duplicates; feed/new, whose
pages follow arrival, is left out.
Cost: neighbours of all items once.
Inconclusive: no page with two items.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, story
from harness.judge.trial import Checker, Finding, Trial

_ACROSS = """
SELECT op FROM (
  SELECT op, high, low, lag(low) OVER w AS before, lag(page) OVER w AS page_before, page FROM page
  WINDOW w AS (PARTITION BY walk ORDER BY page)
) WHERE page_before = page - 1 AND high > before
"""
_OTHERWISE = """
CREATE OR REPLACE TEMP TABLE otherwise AS
SELECT k.id, k.ts_us AS first_us, s.ts_us, s.number FROM said s JOIN post_id k ON k.pid = s.pid WHERE s.ts_us <> k.ts_us
"""
_DISAGREE = """
SELECT s.id, s.first_us, max(s.ts_us), min(o.done_ns)
FROM otherwise s JOIN item i ON i.number = s.number JOIN op o ON o.id = i.op
GROUP BY s.id, s.first_us ORDER BY min(o.done_ns)
"""


def rising_pair(pids: Sequence[int]) -> tuple[int, int] | None:
    """The first neighbours (upper, lower) of a page that do not descend, second showings left out; None if all do."""
    firsts = list(dict.fromkeys(pids))
    for upper, lower in pairwise(firsts):
        if lower > upper:
            return upper, lower
    return None


def check(trial: Trial) -> Finding:
    """Look for neighbours that rise, pages that rise over the page before, and posts with two timestamps."""
    shown = trial.shown
    feeds = {
        op
        for (op,) in trial.rows(
            "SELECT op FROM page WHERE op IN (SELECT unnest($ops::BIGINT[]))", ops=shown.rising.tolist()
        )
    }
    pairs = {op: pair for op in sorted(feeds) if (pair := rising_pair(shown.of(op))) is not None}
    across = [op for (op,) in trial.rows(_ACROSS)]
    trial.con.execute(_OTHERWISE)
    disagreements = trial.rows(_DISAGREE)
    evidence = _sentences(trial, pairs, across)
    evidence += [
        story(trial.case, Moment(done, f"post {post} carries two timestamps, {first} and {last} µs, first seen"))
        for post, first, last, done in disagreements[:EVIDENCE_LIMIT]
    ]
    return Finding(
        observations=trial.number("SELECT sum(n - 1) FROM page WHERE n > 0"),
        violations=len(pairs) + len(across) + len(disagreements),
        evidence=evidence,
        note=f"{trial.number('SELECT count(*) FROM page WHERE page > 0'):,} pages beyond a first one",
    )


def _sentences(trial: Trial, pairs: dict[int, tuple[int, int]], across: list[int]) -> list[str]:
    names = trial.post_names(p for pair in pairs.values() for p in pair)
    rows = trial.rows(
        f"""SELECT op, "user", region, page, done_ns FROM page WHERE op IN (SELECT unnest($ops::BIGINT[]))
            ORDER BY done_ns LIMIT {EVIDENCE_LIMIT}""",
        ops=[*pairs, *across],
    )
    sentences = []
    for op, user, region, page, done in rows:
        what = "begins with a post newer than the end of the page before it,"
        if op in pairs:
            upper, lower = pairs[op]
            what = f"shows {names[upper]} above {names[lower]}, which is newer,"
        sentences.append(story(trial.case, Moment(done, f"page {page} of user {user} in {region} {what}")))
    return sentences


CHECKER = Checker(check)
