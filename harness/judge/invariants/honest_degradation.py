"""18. Honest degradation: what was refused never happened, what was accepted did, a page is fresh or marked degraded.

Formally:
 (a) no read shows a post by the author and with the text of a POST that certainly failed (429, 503, another 4xx, no
     connection), unless the same author sent the same text in a POST that did not fail;
 (b) an acknowledged post that some page had to show by now is shown by at least one read;
 (c) a page without Feed-Degraded shows every covered post of its region that was due before it was asked for: the
     visibility promise (celebrity promise) + 3 s after the acknowledgement; where that runs into a fault window, not
     before its end;
 (d) the mark is no way out: before the first fault, in the baseline, at most half of at least 300 pages say `stale`
     (`reduced` is what overload honestly looks like).

Scope: (a) texts that the load knows, posts not older than the run; (b), (c) stable edges, posts that nobody withdrew,
the newest 800 arrivals; other regions are the business of `cross_region`. Refused deletes and changes of edges that
took effect all the same show as losses in `durability`; accepted ones that did not, in `eligibility`.
Cost: items x refused posts (hashed), covered posts once.
Inconclusive: no unmarked page covers a post that was due.
"""

from __future__ import annotations

from harness.core.clock import NS_PER_S
from harness.judge.case import EVIDENCE_LIMIT, FOREVER_NS
from harness.judge.evidence import Moment, story
from harness.judge.noise import unexplained
from harness.judge.trial import Checker, Finding, Trial

GRACE_NS = 3 * NS_PER_S
"""late is judged by `visibility`; this checker looks for pages that hide what they lack"""
MARKED_SHARE = 0.5
ENOUGH_PAGES = 300

_REFUSED = """
CREATE OR REPLACE TEMP TABLE refused AS
SELECT id, "user", region, sent_ns, status, error, text_hash FROM op o
WHERE kind = 'post' AND outcome = 'fail' AND text_hash <> 0 AND NOT EXISTS (
  SELECT 1 FROM op t
  WHERE t.kind = 'post' AND t.outcome <> 'fail' AND t."user" = o."user" AND t.text_hash = o.text_hash)
"""
_TOOK_EFFECT = """
CREATE OR REPLACE TEMP TABLE took_effect AS
SELECT r.id, i.pid, min(i.op) AS op FROM refused r JOIN said s ON s.hash = r.text_hash AND s.author = r."user"
JOIN item i ON i.number = s.number WHERE s.ts_us >= coalesce((SELECT min(ts_us) FROM post WHERE ts_us > 0), 0)
GROUP BY r.id, i.pid
"""
_REFUSED_EVIDENCE = f"""
SELECT k.id, r."user", r.region, r.sent_ns, CASE WHEN r.status > 0 THEN 'status ' || r.status ELSE r.error END,
       o."user", o.region, o.done_ns
FROM took_effect t JOIN refused r ON r.id = t.id JOIN post_id k ON k.pid = t.pid JOIN op o ON o.id = t.op
ORDER BY r.sent_ns LIMIT {EVIDENCE_LIMIT}
"""
_DUE = (
    "NOT c.remote AND NOT c.own AND c.age_ns >= $grace::BIGINT + CASE WHEN c.celebrity THEN $celebrity ELSE $local END"
)
_STALE = f"""
CREATE OR REPLACE TEMP TABLE stale_page AS
SELECT c.op, c.pid, c."user", c.region, c.ack_ns, c.sent_ns FROM covered c
WHERE NOT c.present AND {_DUE} AND {{counts}} AND c.sent_ns >= deadline(
  c.ack_ns, c.sent_ns - c.ack_ns - c.age_ns + $grace::BIGINT + CASE WHEN c.celebrity THEN $celebrity ELSE $local END)
"""
_NEVER_SHOWN = """
SELECT DISTINCT s.pid FROM stale_page s ANTI JOIN item i ON i.pid = s.pid
"""
_MARKED = """
SELECT count(*), count(*) FILTER (o.degraded LIKE '%stale%'), max(g.sent_ns) FILTER (o.degraded LIKE '%stale%')
FROM page g JOIN op o ON o.id = g.op
SEMI JOIN phase h ON h.kind = 'baseline' AND g.sent_ns >= h.start_ns AND g.sent_ns < h.end_ns WHERE g.sent_ns < $struck
"""
_STALE_EVIDENCE = f"""
SELECT k.id, p.author, p.region, s.ack_ns, s."user", s.region, min(s.sent_ns), count(*)
FROM stale_page s JOIN post p ON p.pid = s.pid JOIN post_id k ON k.pid = s.pid
GROUP BY k.id, p.author, p.region, s.ack_ns, s."user", s.region ORDER BY min(s.sent_ns), k.id LIMIT {EVIDENCE_LIMIT}
"""


def check(trial: Trial) -> Finding:
    """Look for refused posts that can be read, acknowledged ones that nobody sees, and stale pages without a mark."""
    case = trial.case
    values = {"grace": GRACE_NS, "celebrity": case.celebrity_ns, "local": case.visibility_ns}
    trial.con.execute(_REFUSED)
    trial.con.execute(_TOOK_EFFECT)
    bound = f"{GRACE_NS} + CASE WHEN c.celebrity THEN {case.celebrity_ns} ELSE {case.visibility_ns} END"
    trial.con.execute(_STALE.format(counts=unexplained(trial.doubtful, "c.ack_ns", "c.sent_ns", bound)), values)
    due = trial.number(f"SELECT count(*) FROM covered c WHERE {_DUE}", **values)
    [(refused, shown, stale)] = trial.rows(
        "SELECT (SELECT count(*) FROM refused), (SELECT count(*) FROM took_effect), (SELECT count(*) FROM stale_page)"
    )
    unseen = {pid for (pid,) in trial.rows(_NEVER_SHOWN)} if stale else set()
    marked = _marked(trial)
    note = f"{refused:,} writes were refused, {shown:,} of them took effect"
    return Finding(
        observations=due + refused if due or marked else 0,
        violations=shown + stale + len(marked),
        evidence=marked + (_refused(trial) if shown else []) + (_stale(trial, unseen) if stale else []),
        note=note + (f"; {len(unseen):,} acknowledged posts were never shown" if unseen else ""),
    )


def _marked(trial: Trial) -> list[str]:
    """What is wrong with the number of marked pages of the baseline; empty: nothing."""
    windows = trial.case.fault_windows
    [(pages, marked, last)] = trial.rows(_MARKED, struck=windows[0].start_ns if windows else FOREVER_NS)
    if pages < ENOUGH_PAGES or marked <= MARKED_SHARE * pages:
        return []
    return [story(trial.case, Moment(last, f"{marked:,} of {pages:,} pages of the baseline marked stale, the last"))]


def _refused(trial: Trial) -> list[str]:
    return [
        story(
            trial.case,
            Moment(sent, f"a post of user {author} refused in {home} ({why})"),
            Moment(done, f"shown as post {post} to user {user} in {region}"),
        )
        for post, author, home, sent, why, user, region, done in trial.rows(_REFUSED_EVIDENCE)
    ]


def _stale(trial: Trial, unseen: set[int]) -> list[str]:
    names = set(trial.post_names(unseen).values())
    return [
        story(
            trial.case,
            Moment(ack, f"post {post} acknowledged to user {author} in {home}"),
            Moment(
                sent,
                f"absent from a page of user {user} in {region} that is not marked degraded"
                + (f" (and {times - 1} later ones)" if times > 1 else "")
                + (", and from all other reads," if post in names else ""),
            ),
        )
        for post, author, home, ack, user, region, sent, times in trial.rows(_STALE_EVIDENCE)
    ]


CHECKER = Checker(check)
