"""How much was answered well: of what was due in the phases, by arrivals."""

from made_history import MadeHistory

from harness.core.op import OpKind, OpOutcome
from harness.judge.goodput import goodput_of
from harness.record.parquet import to_parquet


def test_only_arrivals_of_the_phases_count_and_refusals_by_status(tmp_path):
    h = MadeHistory(tmp_path, follows={1: [7]}, length=10.0)
    h.post(7, "p1", at=-1.0)  # warm-up
    h.post(7, "p2", at=1.0)
    for at in range(8):
        h.read(1, ["p2"], at=1.5 + at)
    h.read(1, [], at=3.0, outcome=OpOutcome.FAIL, status=503)
    h.read(1, [], at=3.1, outcome=OpOutcome.FAIL, status=429)
    h.read(1, [], at=3.2, outcome=OpOutcome.FAIL, status=503)
    h.op(OpKind.LIKE, 1, at=3.3, outcome=OpOutcome.INFO, error="timed out")
    h.open(1, at=0.5)
    h.event(1, "p2", at=1.1)
    h.read(1, ["p2"], at=9.0, final=True)
    h.read(1, ["p2"], at=10.5)  # after the end
    good = goodput_of(h.case(), to_parquet(h.run))
    assert (good.offered_per_s, good.good_per_s, good.events_per_s) == (1.3, 0.9, 0.1)
    assert good.refused == {"503": 2, "429": 1}
