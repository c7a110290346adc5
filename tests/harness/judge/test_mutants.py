"""The literal histories are many enough: a checker with one small mistake in it fails one of its own tests."""

from __future__ import annotations

import importlib
import importlib.machinery
import inspect
import itertools
import re
import shutil
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from checker_mutants import Mutant, mutants
from made_history import MadeHistory

from harness.core.verdict import Check
from harness.judge.invariants import CHECKERS
from harness.judge.trial import Trial, run_checker
from harness.record.run_directory import RunDirectory

TESTS = Path(__file__).parent / "invariants"
FLOORS = {
    "read_your_writes": 0.9,
    "order": 0.9,
    "cross_region": 0.75,
    "no_duplicates": 0.7,
    "monotonic_reads": 0.7,
    "visibility": 0.8,
    "sse_completeness": 0.8,
    "causal": 0.9,
    "author_order": 0.9,
    "convergence": 0.9,
    "tier_equivalence": 0.9,
    "cursor_integrity": 0.95,
    "cursor_completeness": 0.9,
    "no_phantom": 0.85,
    "witness": 0.9,
    "sse_soundness": 0.9,
    "eligibility": 0.85,
    "honest_degradation": 0.85,
    "durability": 0.9,
}
"""checker -> share of its mutants that its own literal histories must notice.

All checkers are here. What is left is mostly no mistake, no history tells it apart: filters that only spare work (which
walks are looked into, which sessions read again, which items are joined), conditions that another one implies (only a
POST has a text, only an answered read has items, keys of one walk are never equal), the order of evidence, joins in
which one post stands for another, noise of the machine where it is tested by itself.
"""


class Stillborn(Exception):
    """The mutant is no checker at all: its SQL is none."""


class Judged(MadeHistory):
    """A literal history whose tables are built once: the same test asks for them again for every mutant."""

    def __init__(self, bench: Bench, folder: Path, follows: Any, **options: Any) -> None:
        super().__init__(folder, follows, **options)
        self.bench = bench

    def check(self, name: str) -> Check:
        """The result of one checker."""
        check = run_checker(name, CHECKERS[name], self.bench.trial(self))
        if re.search(r"crashed: (Parser|Binder|Catalog)", check.reason):
            raise Stillborn(check.reason)
        assert "crashed" not in check.reason, check.reason
        return check


@dataclass(frozen=True)
class Literal:
    """One test with one choice of its parameters."""

    name: str
    run: Callable[..., None]
    values: dict[str, Any]
    wants: bool
    """whether it asks for `made`"""


class Bench:
    """Runs a checker's literal tests again and again."""

    def __init__(self, name: str, folder: Path, stack: ExitStack) -> None:
        self.name, self.folder, self.stack = name, folder, stack
        self.module = module_of_tests(name)
        self.tests = list(literal_tests(self.module))
        self._trials: dict[tuple[str, int], Trial] = {}
        self._test, self._calls, self._made = "", 0, 0

    def trial(self, history: MadeHistory) -> Trial:
        """The tables of this call of this test."""
        key = (self._test, self._calls)
        self._calls += 1
        if key not in self._trials:  # in a directory of its own: some tables are views of what is stored there
            stored = RunDirectory(self.folder / f"stored-{len(self._trials)}")
            shutil.copytree(history.run.path, stored.path)
            shown, history.run = history.run, stored
            self._trials[key] = self.stack.enter_context(history.trial())
            history.run = shown
        return self._trials[key]

    def make(self, follows: Any, **options: Any) -> Judged:
        """What the fixture `made` answers."""
        self._made += 1
        return Judged(self, self.folder / str(self._made), follows, **options)

    def killer(self) -> str:
        """The first test that fails now; empty: none. Raises Stillborn."""
        for test in self.tests:
            self._test, self._calls = test.name, 0
            try:
                test.run(**test.values, **({"made": self.make} if test.wants else {}))
            except Stillborn:
                raise
            except Exception:  # an assertion, or whatever the mistake led to
                self.tests.remove(test)
                self.tests.insert(0, test)  # what noticed one mistake often notices the next
                return test.name
        return ""

    def noticed(self, mutant: Mutant) -> bool:
        """Whether a test fails with the mutant's checker, and its functions where tests use them. Raises Stillborn."""
        whole, wrong = importlib.import_module(f"harness.judge.invariants.{self.name}"), mutated(self.name, mutant)
        borrowed = {n: v for n, v in vars(self.module).items() if n in vars(wrong) and vars(whole).get(n) is v}
        try:
            CHECKERS[self.name] = wrong.CHECKER
            vars(self.module).update((n, vars(wrong)[n]) for n in borrowed)
            return bool(self.killer())
        finally:
            CHECKERS[self.name] = whole.CHECKER
            vars(self.module).update(borrowed)


def module_of_tests(name: str) -> types.ModuleType:
    """The literal tests of a checker."""
    path = TESTS / f"test_{name}.py"
    loader = importlib.machinery.SourceFileLoader(f"mutated_{name}", str(path))
    module = types.ModuleType(loader.name)
    loader.exec_module(module)
    return module


def literal_tests(module: types.ModuleType) -> Iterator[Literal]:
    """The tests that need nothing but `made` and their own parameters."""
    for name, function in vars(module).items():
        if not name.startswith("test_"):
            continue
        asks = set(inspect.signature(function).parameters)
        for values in choices(function):
            if asks - set(values) <= {"made"}:
                yield Literal(f"{name}{list(values.values())}", function, values, "made" in asks)


def choices(function: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """What `parametrize` gives a test, one choice after the other."""
    axes = []
    for mark in getattr(function, "pytestmark", []):
        if mark.name == "parametrize":
            names, rows = mark.args
            axes.append(
                [{names: row} if isinstance(names, str) else dict(zip(names, row, strict=True)) for row in rows]
            )
    for chosen in itertools.product(*axes):
        yield {name: value for choice in chosen for name, value in choice.items()}


def mutated(name: str, mutant: Mutant) -> types.ModuleType:
    """A mutant's module."""
    module = types.ModuleType(f"harness.judge.invariants.{name}")
    exec(compile(mutant.source, name, "exec"), module.__dict__)
    return module


def survivors(name: str, folder: Path) -> tuple[int, list[str]]:
    """(number of mutants that can run at all, those that no test of the checker notices)."""
    source = Path(inspect.getsourcefile(CHECKERS[name].check) or "").read_text()
    born, alive = 0, []
    with ExitStack() as stack:
        bench = Bench(name, folder, stack)
        assert bench.killer() == ""
        for mutant in mutants(source):
            try:
                alive += [] if bench.noticed(mutant) else [mutant.what]
            except Stillborn:
                continue
            born += 1
        assert bench.killer() == ""  # nothing of a mutant stays behind
    return born, alive


def are_killed(name: str, folder: Path) -> None:
    count, alive = survivors(name, folder)
    killed = 1 - len(alive) / count
    assert killed >= FLOORS[name], "\n".join([f"{killed:.0%} of {count} killed; alive:", *alive])


def test_each_checker_has_a_floor():
    assert set(FLOORS) == set(CHECKERS)


@pytest.mark.slow
def test_mistakes_in_a_small_checker_are_noticed(tmp_path):
    are_killed("read_your_writes", tmp_path)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", FLOORS)
def test_mistakes_are_noticed(tmp_path, name):
    are_killed(name, tmp_path)


def test_one_mistake_at_a_time():
    source = 'LIMIT = 3\n_SQL = """SELECT a FROM t WHERE a >= 1 AND NOT b"""\n\n\ndef f(x):\n    return x > 1\n'
    assert [m.what for m in mutants(source)] == [
        "LIMIT = [3 -> 4]",
        '_SQL = """SELECT a FROM t WHERE [a >= 1 -> TRUE] AND NOT b"""',
        '_SQL = """SELECT a FROM t WHERE a [>= -> >] 1 AND NOT b"""',
        '_SQL = """SELECT a FROM t WHERE a >= 1 AND [NOT b -> TRUE]"""',
        "return x[ > -> >= ]1",
    ]
