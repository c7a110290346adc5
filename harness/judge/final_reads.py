"""Whether the final reads are fit to judge by: what a failed one would have shown is unknown.

The checkers that rest on final reads (durability, convergence) cannot pass when more than 1 % of them failed.
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
