"""Each claim can be measured, as what its figures are read off exists; the page is what the stored findings give."""

import ast
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
            assert is_told_by((ROOT / "benchmarks" / f"{part.source.name}.py").read_text(encoding="utf-8"), part.path)
        case Properties():
            assert set(part.names) <= set(REGISTRY)
        case Threshold():
            slo_of(part)
        case Asked():
            assert part.source.scenario


def is_told_by(code: str, path: str) -> bool:
    """Whether a benchmark's result has this place, as far as its code tells without being run.

    What a dictionary takes over from others (`**found`) may come from any dictionary of the module.
    """
    tree = ast.parse(code)
    written = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    anywhere = {key for one in written for key in keys_of(one)}
    found = [one for one in written if "benchmark" in keys_of(one)]
    *outer, last = path.split(".")
    for name in outer:
        values = [keys_of(one)[name] for one in found if name in keys_of(one)]
        meant = {value.id for value in values if isinstance(value, ast.Name)}
        found = [value for value in values if isinstance(value, ast.Dict)]
        found += [value for target, value in assigned(tree) if target in meant]
    return any(last in keys_of(one) or (None in one.keys and last in anywhere) for one in found)


def keys_of(one: ast.Dict) -> dict[str, ast.expr]:
    pairs = zip(one.keys, one.values, strict=True)
    return {str(key.value): value for key, value in pairs if isinstance(key, ast.Constant)}


def assigned(tree: ast.AST) -> list[tuple[str, ast.Dict]]:
    """Names that dictionaries are given to."""
    found = []
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        if targets and isinstance(node.value, ast.Dict):  # type: ignore[attr-defined]
            found += [(target.id, node.value) for target in targets if isinstance(target, ast.Name)]  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    ("path", "is_there"),
    [
        ("ratio", True),
        ("value", False),
        ("figures.a", True),
        ("figures.b", False),
        ("details.b", True),
        ("more.c", True),
        ("more.a", False),
        ("found", False),
    ],
)
def test_where_a_benchmark_tells_a_figure_is_seen_in_its_code(path, is_there):
    code = """
more = {"c": 1}
def run(found):
    other = {"b": 3, "value": 4}
    return {"benchmark": "x", "ratio": 1, "figures": {"a": 2}, "details": {**found}, "more": more}
"""
    assert is_told_by(code, path) is is_there


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
