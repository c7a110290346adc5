"""17. Tier equivalence: at rest a feed is the merge of what its user follows, whatever tier the edges are in.

Formally: let W be a final walk of user u, begun when all regions must agree (`settled_ns`). The posts of the run in
W, down to its end, are those that u is owed: written by u, or by an author whom u follows over an edge that did not
change from 5 s before the acknowledgement. None is missing, over a hot edge or a cold one; none of an author whom u
never followed is there.

Scope: undegraded walks; the newest 800 arrivals, to which a walk that says it is complete must reach;
withdrawn posts, authors whose edge changed and posts without an answer may be there or not (`eligibility` judges what
must be gone, `no_duplicates` and `order` the rest of a merge). An edge is hot when the population says so, when the
user liked a post of the author, or listened to his stream; it belongs to a celebrity's tier when the author is one.
Strangers are told apart only where all follows are known: a target started for this run.
Cost: covered posts once, items of final walks once.
Inconclusive: no such walk, or none over one of the tiers in which posts were owed; more than 1 % of final reads
failed.
"""

from __future__ import annotations

from harness.judge import graph
from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, follows, story
from harness.judge.final_reads import failed_final_reads, settled_ns
from harness.judge.trial import Checker, Finding, Trial

_RESTING = """
CREATE OR REPLACE TEMP TABLE resting AS
SELECT g.op, w.walk, w."user", w.region, w.start_ns, w.lo, w.complete FROM walk w JOIN page g ON g.walk = w.walk
WHERE w.final AND NOT w.degraded AND w.start_ns >= $settled
"""
_TIER = """
CREATE OR REPLACE TEMP TABLE tier AS
SELECT e.follower AS "user", e.author, CASE
  WHEN e.follower = e.author THEN 'own'
  WHEN s.author IS NOT NULL THEN 'celebrity'
  WHEN l."user" IS NOT NULL OR i."user" IS NOT NULL OR b.hot THEN 'hot'
  WHEN b.follower IS NOT NULL AND b.hot IS NULL THEN 'unknown' ELSE 'cold' END AS tier
FROM edge e LEFT JOIN base b ON b.follower = e.follower AND b.author = e.author
LEFT JOIN star s ON s.author = e.author
LEFT JOIN (SELECT DISTINCT "user" FROM stream) l ON l."user" = e.follower
LEFT JOIN (SELECT DISTINCT "user", author FROM op WHERE kind = 'like' AND outcome <> 'fail') i
  ON i."user" = e.follower AND i.author = e.author
"""
# What each walk owes: what its pages cover, and what lies below the end of one that says it is complete.
_OWED = """
CREATE OR REPLACE TEMP TABLE owed AS
SELECT r.walk, r."user", r.region, r.start_ns, d.pid, d.author, c.present
FROM covered c JOIN resting r ON r.op = c.op JOIN due_item d ON d."user" = c."user" AND d.pid = c.pid
UNION ALL
SELECT w.walk, w."user", w.region, w.start_ns, d.pid, d.author, false
FROM (SELECT DISTINCT walk, "user", region, start_ns, lo FROM resting WHERE complete) w
JOIN due_item d ON d."user" = w."user" AND d.pid < w.lo WHERE d.shallow
"""
_BY_TIER = """
SELECT t.tier, count(*), count(*) FILTER (NOT o.present) FROM owed o
JOIN tier t ON t."user" = o."user" AND t.author = o.author GROUP BY 1 ORDER BY 1
"""
_TIERS_OWED = """
SELECT DISTINCT t.tier FROM due_item d JOIN tier t ON t."user" = d."user" AND t.author = d.author
WHERE d.shallow AND t.tier <> 'own'
"""
_MISSING = f"""
SELECT k.id, p.author, p.region, p.ack_ns, o."user", o.region, o.start_ns, t.tier, e.since_ns FROM owed o
JOIN tier t ON t."user" = o."user" AND t.author = o.author JOIN post p ON p.pid = o.pid JOIN post_id k ON k.pid = o.pid
JOIN edge e ON e.follower = o."user" AND e.author = o.author
WHERE NOT o.present ORDER BY p.ack_ns, o.start_ns LIMIT {EVIDENCE_LIMIT}
"""
_STRANGERS = """
CREATE OR REPLACE TEMP TABLE stranger AS
SELECT r."user", r.region, r.start_ns, i.pid, p.author
FROM item i JOIN resting r ON r.op = i.op JOIN post p ON p.pid = i.pid
ANTI JOIN base b ON b.follower = r."user" AND b.author = p.author
ANTI JOIN change c ON c.follower = r."user" AND c.author = p.author
WHERE p.author <> r."user"
"""
_STRANGERS_EVIDENCE = f"""
SELECT k.id, p.author, p.region, p.ack_ns, s."user", s.region, s.start_ns
FROM stranger s JOIN post p ON p.pid = s.pid JOIN post_id k ON k.pid = s.pid ORDER BY s.start_ns LIMIT {EVIDENCE_LIMIT}
"""


def check(trial: Trial) -> Finding:
    """Compare the final walks with what each user is owed."""
    trial.con.execute(_RESTING, {"settled": settled_ns(trial)})
    trial.con.execute(_TIER)
    trial.con.execute(_OWED)
    by_tier = trial.rows(_BY_TIER)
    strangers = 0
    if graph.knows_all_follows(trial.con, trial.case):
        trial.con.execute(_STRANGERS)
        strangers = trial.number("SELECT count(*) FROM stranger")
    missing = sum(lacking for _, _, lacking in by_tier)
    unseen = {tier for (tier,) in trial.rows(_TIERS_OWED)} - {tier for tier, _, _ in by_tier}
    gaps = [f"no final walk shows the tier: {', '.join(sorted(unseen))}"] if unseen else []
    walks = trial.number("SELECT count(DISTINCT walk) FROM resting")
    counted = ", ".join(f"{count:,} {tier}" for tier, count, _ in by_tier)
    return Finding(
        observations=sum(count for _, count, _ in by_tier),
        violations=missing + strangers,
        evidence=(_missing(trial) if missing else []) + (_strangers(trial) if strangers else []),
        note=f"{walks:,} walks at rest; posts owed by tier of the edge: {counted or 'none'}",
        unproven="; ".join(part for part in (failed_final_reads(trial), *gaps) if part),
    )


def _missing(trial: Trial) -> list[str]:
    return [
        story(
            trial.case,
            Moment(ack, f"post {post} acknowledged to user {author} in {home}"),
            *([] if tier == "own" else [follows(user, author, since)]),
            Moment(start, f"absent from the final walk of user {user} in {region} ({tier})"),
        )
        for post, author, home, ack, user, region, start, tier, since in trial.rows(_MISSING)
    ]


def _strangers(trial: Trial) -> list[str]:
    return [
        story(
            trial.case,
            Moment(ack, f"post {post} acknowledged to user {author} in {home}"),
            Moment(start, f"shown in the final walk of user {user}, who never followed him, in {region}"),
        )
        for post, author, home, ack, user, region, start in trial.rows(_STRANGERS_EVIDENCE)
    ]


CHECKER = Checker(check, needs=("paging",))
