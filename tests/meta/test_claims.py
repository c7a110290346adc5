"""Each claim can be measured, as what its figures are read off exists; the page is what the stored findings give."""

from pathlib import Path

import pytest

from harness.claims.catalogue import CLAIMS
from harness.claims.model import Asked, Benchmark, Conformance, Field, Invariant, Properties, Quotient, Run, Threshold
from harness.claims.page import markdown
from harness.claims.readings import meets, slo_of
from harness.claims.running import read_findings
from harness.contract.conformance.registry import REGISTRY
from harness.contract.profile import load_profile
from harness.judge.invariants import CHECKERS
from harness.run.request import read_request

ROOT = Path(__file__).parents[2]
IDS = [f"C{number}" for number in range(1, 22) if number != 17]
FIGURES = [(claim.id, figure) for claim in CLAIMS for figure in claim.figures]
PARTS = [
    part
    for _, figure in FIGURES
    for part in ((figure.of.over, figure.of.under) if isinstance(figure.of, Quotient) else (figure.of,))
]
SOURCES = list(dict.fromkeys(source for claim in CLAIMS for source in claim.sources))


def test_all_claims_are_there_in_order():
    assert [claim.id for claim in CLAIMS] == IDS


def test_something_decides_each_claim():
    assert {name for name, figure in FIGURES if figure.decides} == set(IDS)


@pytest.mark.parametrize("source", [s for s in SOURCES if isinstance(s, Run)], ids=lambda source: source.command)
def test_runs_can_be_made_and_have_the_phases_that_are_asked_for(source, tmp_path):
    request = read_request(source.scenario, None, source.settings, None, tmp_path, (), source.flags)
    phases = {phase.name for phase in request.scenario.phases}
    start = load_profile("reference").start
    assert start is not None
    asked = [slo_of(part) for part in PARTS if isinstance(part, Threshold) and part.source == source]
    assert {slo.tags["phase"] for slo in asked if "phase" in slo.tags} <= phases
    assert {slo.tags["region"] for slo in asked if "region" in slo.tags} <= set(start.regions)
    assert source.limit_s > 2 * (request.scenario.warmup_s + request.scenario.duration_s) + 60


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_what_is_read_exists(part):
    match part:
        case Invariant():
            assert part.name in CHECKERS
        case Field():
            code = (ROOT / "benchmarks" / f"{part.source.name}.py").read_text(encoding="utf-8")
            assert f'"{part.path.rpartition(".")[2]}"' in code
        case Properties():
            assert set(part.names) <= set(REGISTRY)
        case Threshold():
            slo_of(part)
        case Asked():
            assert part.source.scenario


def test_bounds_are_bounds():
    for _, figure in FIGURES:
        if figure.bound and not isinstance(figure.of, Threshold):
            meets(figure.bound, 1.0)


def test_benchmarks_exist():
    for source in SOURCES:
        assert isinstance(source, Run | Conformance) or (ROOT / "benchmarks" / f"{source.name}.py").is_file()
    assert any(isinstance(source, Benchmark) for source in SOURCES)


def test_the_page_is_what_the_stored_findings_give():
    page, stored = ROOT / "docs" / "claims.md", ROOT / "docs" / "claims.json"
    assert page.exists() == stored.exists()
    if page.exists():
        assert page.read_text(encoding="utf-8") == markdown(CLAIMS, read_findings(stored)), "feedstorm claims --write"
