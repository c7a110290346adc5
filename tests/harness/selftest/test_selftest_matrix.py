"""What a selftest concludes from verdicts: literal ones, one of each sort."""

import json

import pytest

from harness.core.verdict import Check, CheckKind, Outcome, Verdict
from harness.selftest.catalogue import PLANTED, Trouble, planted
from harness.selftest.files import write_files
from harness.selftest.matrix import Matrix, Result, Row, cells_of, lines_of, outcome_of, row_of, tally
from harness.selftest.plan import Planned

SLO = "feed_read{phase:baseline} p(95) <= 750ms"
PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def check(name: str, verdict: Outcome, kind: CheckKind = CheckKind.INVARIANT, **more: object) -> Check:
    return Check(name=name, kind=kind, verdict=verdict, reason=f"{name} {verdict}", **more)  # type: ignore[arg-type]


def row(planned: Planned, *checks: Check) -> Row:
    return row_of(planned, Verdict(verdict=PASS, scenario="selftest", seed=1, checks=list(checks)), "01-x", 2.0)


def one(name: str) -> Planned:
    return Planned(planted(name).trouble, (planted(name),))


def sound(trouble: Trouble) -> list[Check]:
    """Everything that is named for a defect of that trouble passes."""
    return [check(name, PASS) for name in {entry.caught_by for entry in PLANTED if entry.trouble is trouble}]


@pytest.mark.parametrize(
    ("checks", "result"),
    [
        ([check("durability", FAIL)], Result.CAUGHT),
        ([check("durability", FAIL), check("order", FAIL)], Result.CAUGHT),
        ([check("durability", PASS), check("order", FAIL)], Result.MISSED),  # another one is red: not enough
        ([check("durability", INCONCLUSIVE)], Result.UNKNOWN),
        ([check("durability", INCONCLUSIVE, skipped=True)], Result.UNKNOWN),
        ([], Result.UNKNOWN),
    ],
)
def test_a_defect_is_caught_by_the_checker_named_for_it_alone(checks, result):
    (line,) = lines_of(row(one("no-wal"), *checks))
    assert (line.defect, line.result) == ("no-wal", result)


def test_recovery_and_slos_have_columns_and_the_worst_of_several_counts():
    cells = cells_of(
        Verdict(
            verdict=FAIL,
            scenario="selftest",
            seed=1,
            checks=[
                check(SLO, PASS, CheckKind.SLO),
                check("feed_read p(99) <= 1s", FAIL, CheckKind.SLO, evidence=["slow"]),
                check("recovery from kill of us-east.memcached", FAIL, CheckKind.RECOVERY),
                check("causal", PASS),
                check("causal", INCONCLUSIVE, skipped=True),
                check("witness", FAIL, CheckKind.WITNESS),
                check("load generator", FAIL, CheckKind.GENERATOR),
            ],
        )
    )
    assert {name: cell.verdict for name, cell in cells.items()} == {
        "feed_read": FAIL,
        "recovery": FAIL,
        "causal": PASS,
    }
    assert cells["feed_read"].says == "slow"


def test_a_clean_run_is_flagged_by_any_failing_check_and_unknown_when_a_named_one_did_not_pass():
    planned = Planned(Trouble.EDGE)
    assert [line.result for line in lines_of(row(planned, *sound(Trouble.EDGE)))] == [Result.CLEAN]
    flagged = row(
        planned, *sound(Trouble.EDGE), check("witness", PASS), check("post_accept p(99)", FAIL, CheckKind.SLO)
    )
    assert [line.result for line in lines_of(flagged)] == [Result.FLAGGED]
    assert [line.result for line in lines_of(row(planned))] == [Result.UNKNOWN]
    unsure = row(planned, check("sse_completeness", INCONCLUSIVE))
    assert [line.result for line in lines_of(unsure)] == [Result.UNKNOWN]


def test_defects_that_share_a_run_are_judged_each_by_its_own_checker():
    both = Planned(Trouble.CACHE, (planted("no-wal"), planted("unordered-page")))
    first, second = lines_of(row(both, check("durability", FAIL), check("order", PASS), check("causal", FAIL)))
    assert (first.result, second.result) == (Result.CAUGHT, Result.MISSED)
    assert first.also_failed == ["causal"]
    assert first.planted_with == ["unordered-page"]
    assert first.remark == "causal (planted with unordered-page)"


@pytest.mark.parametrize(
    ("rows", "planned", "outcome"),
    [
        ([row(one("no-wal"), check("durability", FAIL))], 1, PASS),
        ([row(one("no-wal"), check("durability", FAIL))], 2, INCONCLUSIVE),  # interrupted
        ([row(one("no-wal"), check("durability", PASS))], 1, FAIL),
        ([row(one("no-wal"))], 1, INCONCLUSIVE),
        ([row(one("no-wal")), row(Planned(Trouble.CACHE), check("order", FAIL))], 2, FAIL),
        ([], 1, INCONCLUSIVE),
    ],
)
def test_the_whole_passes_when_all_was_caught_and_nothing_flagged(rows, planned, outcome):
    assert outcome_of(Matrix(rows=rows, planned=planned)) is outcome


def test_the_files_show_every_defect_and_every_run(tmp_path):
    rows = [
        row(Planned(Trouble.CACHE), *sound(Trouble.CACHE)),
        row(one("no-wal"), check("durability", FAIL, evidence=["post <p> is lost"])),
        row(one("unordered-page"), check("order", PASS)),
    ]
    matrix = Matrix(rows=rows, planned=4, made={"started": "2030-01-02T03:04:05+00:00", "machine": {"cores": 2}})
    write_files(matrix, tmp_path)
    page = (tmp_path / "detection.md").read_text()
    assert "1 of 2 planted defects caught" in page
    assert "2030-01-02" in page
    assert "| `no-wal` | cache | `durability` | caught |  |" in page
    assert "| `unordered-page` | cache | `order` | **missed** |  |" in page
    assert "| `no-resume` | edge | `sse_completeness` | not run |  |" in page
    html = (tmp_path / "selftest.html").read_text()
    assert "post &lt;p&gt; is lost" in html
    assert '<a href="01-x/report.html">' in html
    assert len(json.loads((tmp_path / "matrix.json").read_text())["rows"]) == 3
    assert tally(lines_of(*rows)).endswith("1 of 1 clean runs clean")
