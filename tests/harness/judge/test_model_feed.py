"""Legal histories without number: no checker accuses one, and where there is something to see each of them passes."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from model_edits import EDITS, OBSERVED, Edit
from model_feed import ModelFeed
from model_world import Shape

from harness.core.verdict import Outcome
from harness.judge.invariants import CHECKERS
from harness.judge.trial import run_checker

SAMPLE = settings(
    max_examples=20,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)
MATRIX = settings(SAMPLE, max_examples=1500, derandomize=False, phases=tuple(Phase))

SHAPES = st.builds(
    Shape,
    seed=st.integers(0, 1 << 32),
    users=st.integers(2, 7),
    moves=st.integers(1, 18),
    faults=st.integers(0, 2),
    celebrity=st.booleans(),
    listeners=st.booleans(),
    edges=st.booleans(),
    removals=st.booleans(),
    unsure=st.booleans(),
    degraded=st.booleans(),
    edgy=st.booleans(),
    rounds=st.integers(0, 4),
)
TRIES = 30
"""worlds in which an edit looks for its place"""
RICH = st.builds(Shape, seed=st.integers(0, 1 << 32), users=st.just(6), moves=st.just(20), edgy=st.booleans())


def not_accused(shape: Shape) -> None:
    """No checker fails; whoever has something to look at passes."""
    with tempfile.TemporaryDirectory() as folder:
        feed = ModelFeed(Path(folder), shape)
        with feed.made.trial() as trial:
            checks = {name: run_checker(name, checker, trial) for name, checker in CHECKERS.items()}
        edits = [edit for name, edit in EDITS.items() if name in OBSERVED and edit.fits(shape)]
        observed = {edit.checker for edit in edits if edit.places(feed)}
    accused = {name: check.evidence[:3] for name, check in checks.items() if check.verdict is Outcome.FAIL}
    blind = {name: checks[name].reason for name in observed if checks[name].verdict is Outcome.INCONCLUSIVE}
    crashed = {name: check.reason for name, check in checks.items() if "crashed" in check.reason}
    assert (accused, blind, crashed) == ({}, {}, {})


@pytest.mark.slow
@SAMPLE
@example(
    Shape(seed=0x20000001, users=2, moves=3, faults=2, listeners=False, edges=True, degraded=True, edgy=True, rounds=0)
)
@example(
    Shape(seed=2, users=2, moves=18, celebrity=True, listeners=False, edges=True, unsure=True, edgy=True, rounds=2)
)
@given(SHAPES)
def test_no_legal_history_is_accused(shape):
    not_accused(shape)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@MATRIX
@given(SHAPES)
def test_no_legal_history_of_many_is_accused(shape):
    not_accused(shape)


def edited(folder: str, edit: Edit, shape: Shape) -> ModelFeed:
    """A world of this shape in which the edit finds its place; seeds are tried in turn."""
    needed = replace(shape, **edit.needs)
    for seed in range(shape.seed, shape.seed + TRIES):
        feed = ModelFeed(Path(folder) / str(seed), replace(needed, seed=seed))
        if edit.apply(feed):
            return feed
    raise AssertionError("the edit found no place in any of these worlds")


def is_caught(name: str, shape: Shape) -> None:
    edit = EDITS[name]
    with tempfile.TemporaryDirectory() as folder:
        feed = edited(folder, edit, shape)
        check = feed.made.check(edit.checker)
    assert check.verdict is Outcome.FAIL, (feed.shape, check.reason)
    assert check.evidence


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
@settings(SAMPLE, max_examples=1)
@given(RICH)
def test_one_edit_is_caught(name, shape):
    is_caught(name, shape)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", EDITS)
@settings(MATRIX, max_examples=40)
@given(RICH)
def test_one_edit_in_many_worlds_is_caught(name, shape):
    is_caught(name, shape)
