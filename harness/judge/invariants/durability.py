"""1. Durability: an acknowledged post that nobody withdrew is in the final reads of every stable follower, everywhere.

Formally: for each post w with outcome ok, each follower f (the author is one) whose edge was unchanged from 5 s before
ack(w), each region, and each undegraded final page of f whose key range covers w: w is on that page.

Scope: the newest 800 arrivals of a feed; pages asked for after ack + the visibility promise in the post's own region,
and after max(ack + cross-region promise, heal + T) elsewhere. Posts with outcome info may be there or not.
Cost: covered posts of final pages once (the table `covered` is pages x posts due on them, an equi-join by user).
Inconclusive: no final page covers any post, or a region has none; more than 1 % of the final reads failed; less than
80 % of the posts that stand in the feed of somebody who reads were looked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.judge.case import EVIDENCE_LIMIT
from harness.judge.evidence import Moment, follows, story
from harness.judge.final_reads import failed_final_reads
from harness.judge.trial import Checker, Finding, Trial

SOUGHT_SHARE = 0.8

_SETTLED = """
c.final AND CASE
  WHEN c.remote
  THEN c.age_ns >= $remote::BIGINT + CASE WHEN c.celebrity THEN $celebrity ELSE 0 END AND c.sent_ns >= $healed
  ELSE c.age_ns >= CASE WHEN c.celebrity THEN $celebrity ELSE $local END END
"""

_EVIDENCE = f"""
SELECT k.id, c.ack_ns, p.author, p.region, c."user", c.region, c.own, c.sent_ns,
       coalesce(e.since_ns, -1)
FROM covered c JOIN post_id k ON k.pid = c.pid JOIN post p ON p.pid = c.pid
LEFT JOIN edge e ON e.follower = c."user" AND e.author = p.author
WHERE NOT c.present AND {_SETTLED}
ORDER BY c.ack_ns, c.sent_ns LIMIT {EVIDENCE_LIMIT}
"""


def check(trial: Trial) -> Finding:
    """Look for acknowledged posts that a final page covers but does not show."""
    values = _promises(trial)
    regions = trial.rows(
        f"SELECT c.region, count(*), count(*) FILTER (NOT c.present) FROM covered c WHERE {_SETTLED} GROUP BY 1",
        **values,
    )
    [(sought, lost)] = trial.rows(
        f"""SELECT count(DISTINCT c.pid), count(DISTINCT c.pid) FILTER (NOT c.present)
            FROM covered c WHERE {_SETTLED}""",
        **values,
    )
    written = trial.number("SELECT count(*) FROM post WHERE NOT withdrawn")
    unread = sorted(set(trial.case.profile.regions) - {r for r, _, _ in regions})
    return Finding(
        observations=sum(n for _, n, _ in regions),
        violations=sum(n for _, _, n in regions),
        evidence=_sentences(trial, values) if lost else [],
        note=f"{sought:,} of {written:,} acknowledged posts were looked for" + (f", {lost:,} are lost" if lost else ""),
        unproven="; ".join(_gaps(trial, sought, unread)) if regions else failed_final_reads(trial),
    )


def _gaps(trial: Trial, sought: int, unread: list[str]) -> Iterator[str]:
    """Why what the final reads show is not enough. Posts that no reader or listener need ever see do not count."""
    if unread:
        yield f"no final read covers a post in {', '.join(unread)}"
    if failed := failed_final_reads(trial):
        yield failed
    visible = trial.number("SELECT count(DISTINCT pid) FROM due_item WHERE shallow")
    if sought < SOUGHT_SHARE * visible:
        yield f"only {sought:,} of the {visible:,} posts that somebody follows were looked for"


def _promises(trial: Trial) -> dict[str, int]:
    case = trial.case
    return {
        "local": case.visibility_ns,
        "celebrity": case.celebrity_ns,
        "remote": case.cross_region_ns,
        "healed": case.healed_ns,
    }


def _sentences(trial: Trial, values: dict[str, int]) -> list[str]:
    sentences = []
    for post, ack, author, home, reader, region, own, sent, since in trial.rows(_EVIDENCE, **values):
        who = "its author" if own else f"user {reader}"
        moments = [
            Moment(ack, f"post {post} acknowledged to user {author} in {home}"),
            Moment(sent, f"absent from the final read of {who} in {region}"),
        ]
        sentences.append(story(trial.case, *moments, *([] if own else [follows(reader, author, since)])))
    return sentences


CHECKER = Checker(check)
