"""docs/detection.md, the stack and the catalogue of the selftest speak of the same defects."""

import re
from pathlib import Path

from harness.judge.invariants import CHECKERS
from harness.run.scenario_file import load_scenario
from harness.selftest.catalogue import PLANTED, QUICK, SCENARIO, catchers, planted
from harness.selftest.markdown import render
from harness.selftest.matrix import Matrix
from reference_server.settings import DEFECTS

PAGE = (Path(__file__).parents[2] / "docs" / "detection.md").read_text(encoding="utf-8")


def test_the_catalogue_names_a_checker_for_every_defect_of_the_stack():
    assert [entry.defect for entry in PLANTED] == list(DEFECTS)


def test_the_page_lists_every_defect_with_its_trouble_and_checker():
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| `(\w+)` \|", PAGE, re.MULTILINE)
    assert rows == [(entry.defect, str(entry.trouble), entry.caught_by) for entry in PLANTED]


def test_what_no_run_changes_on_the_page_is_what_a_selftest_would_write_today():
    def unmeasured(page: str) -> tuple[str, str]:
        return page.partition("## Result")[0], page.partition("## Troubles")[2].partition("## The whole matrix")[0]

    assert unmeasured(PAGE) == unmeasured(render(Matrix()))


def test_every_checker_named_is_judged_by_the_scenario():
    expected = load_scenario(SCENARIO).expect
    metrics = {selector.partition("{")[0] for selector in expected}
    assert set(catchers()) <= set(CHECKERS) | metrics


def test_every_invariant_but_the_witness_has_a_defect():
    assert set(CHECKERS) - set(catchers()) <= {"witness"}


def test_defects_that_share_a_quick_run_do_not_turn_each_others_checkers_red():
    alone = dict(re.findall(r"^\| `([a-z-]+)` \| \w+ \| `\w+` \| [^|]+ \| ([^|]*) \|$", PAGE, re.MULTILINE))
    assert set(alone) == {entry.defect for entry in PLANTED}
    for group in QUICK:
        for defect in group:
            named = {planted(other).caught_by for other in group if other != defect}
            if "planted with" not in alone[defect]:
                assert named & set(re.findall(r"\w+", alone[defect])) == set(), defect
