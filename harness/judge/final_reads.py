"""The final reads: from when on nothing may be on its way any more, and whether they are fit to judge by.

What a failed one would have shown is unknown: the checkers that rest on final reads (durability, convergence,
tier_equivalence) cannot pass when more than 1 % of them failed.
"""

from __future__ import annotations

from harness.judge.trial import Trial

FAILED_SHARE = 0.01

_FAILED = """
SELECT count(*), count(*) FILTER (outcome <> 'ok'),
       arg_min(CASE WHEN status > 0 THEN 'status ' || status || ' ' ELSE '' END || error, sent_ns)
         FILTER (outcome <> 'ok')
FROM op WHERE final AND kind = 'feed'
"""


def failed_final_reads(trial: Trial) -> str:
    """What is wrong with the final reads, with the first error; empty: at most 1 % of them failed."""
    [(reads, failed, first)] = trial.rows(_FAILED)
    if failed <= FAILED_SHARE * reads:
        return ""
    return f"{failed:,} of {reads:,} final reads failed, the first with {first.strip() or 'no reason recorded'}"


def settled_ns(trial: Trial) -> int:
    """When all regions must agree: max(end of the last POST that did not fail + C, heal + T).

    C is the cross-region promise, with a celebrity the celebrity promise on top; T the convergence time.
    """
    case = trial.case
    last = trial.number("SELECT max(done_ns) FROM op WHERE kind = 'post' AND outcome <> 'fail'")
    patience = case.clock_error_ns + case.cross_region_ns + (case.celebrity_ns if case.celebrities else 0)
    return max(last + patience, case.healed_ns)
