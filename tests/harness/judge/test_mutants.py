"""The literal histories are many enough: a checker with one small mistake in it fails one of its own tests."""

from __future__ import annotations

import importlib.machinery
import inspect
import types
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from checker_mutants import Mutant, mutants
from made_history import MadeHistory

from harness.core.verdict import Check
from harness.judge.invariants import CHECKERS
from harness.judge.trial import Checker, Trial, run_checker

TESTS = Path(__file__).parent / "invariants"
FLOORS = {
    "read_your_writes": 0.9,
    "order": 0.55,
    "cross_region": 0.75,
    "no_duplicates": 0.7,
    "monotonic_reads": 0.7,
    "visibility": 0.8,
    "sse_completeness": 0.8,
}
"""checker -> share of its mutants that its own literal histories must notice.

What is left is mostly no mistake: filters that only spare work (which walks are looked into, which sessions read
again), the order of evidence, joins in which one post stands for another, noise of the machine (tested by itself).
"""


class Judged(MadeHistory):
    """A literal history whose tables are built once: the same test asks for them again for every mutant."""

    def __init__(self, bench: Bench, folder: Path, follows: Any, **options: Any) -> None:
        super().__init__(folder, follows, **options)
        self.bench = bench

    def check(self, name: str) -> Check:
        """The result of one checker."""
        check = run_checker(name, CHECKERS[name], self.bench.trial(self))
        assert "crashed" not in check.reason, check.reason
        return check


class Bench:
    """Runs a checker's literal tests again and again."""

    def __init__(self, name: str, folder: Path, stack: ExitStack) -> None:
        self.name, self.folder, self.stack = name, folder, stack
        self.tests = literal_tests(name)
        self._trials: dict[tuple[str, int], Trial] = {}
        self._test, self._calls, self._made = "", 0, 0

    def trial(self, history: MadeHistory) -> Trial:
        """The tables of this call of this test."""
        key = (self._test, self._calls)
        self._calls += 1
        if key not in self._trials:
            self._trials[key] = self.stack.enter_context(history.trial())
        return self._trials[key]

    def make(self, follows: Any, **options: Any) -> Judged:
        """What the fixture `made` answers."""
        self._made += 1
        return Judged(self, self.folder / str(self._made), follows, **options)

    def killer(self) -> str:
        """The first test that fails now; empty: none."""
        for test in self.tests:
            self._test, self._calls = test.__name__, 0
            try:
                test(self.make)
            except Exception:  # an assertion, or whatever the mistake led to
                return test.__name__
        return ""


def literal_tests(name: str) -> list[Callable[[Any], None]]:
    """The tests of a checker that need nothing but `made`."""
    path = TESTS / f"test_{name}.py"
    loader = importlib.machinery.SourceFileLoader(f"mutated_{name}", str(path))
    module = types.ModuleType(loader.name)
    loader.exec_module(module)
    functions = [f for n, f in vars(module).items() if n.startswith("test_")]
    return [f for f in functions if list(inspect.signature(f).parameters) == ["made"]]


def mutated(name: str, mutant: Mutant) -> Checker:
    """The checker of a mutant's module."""
    module = types.ModuleType(f"mutant_{name}")
    module.__dict__["__name__"] = f"harness.judge.invariants.{name}"
    exec(compile(mutant.source, name, "exec"), module.__dict__)
    checker: Checker = module.CHECKER
    return checker


def survivors(name: str, folder: Path) -> tuple[int, list[str]]:
    """(number of mutants, those that no test of the checker notices)."""
    source = Path(inspect.getsourcefile(CHECKERS[name].check) or "").read_text()
    checker, alive, changed = CHECKERS[name], [], list(mutants(source))
    with ExitStack() as stack:
        bench = Bench(name, folder, stack)
        assert bench.killer() == ""
        for mutant in changed:
            try:
                CHECKERS[name] = mutated(name, mutant)
                alive += [] if bench.killer() else [mutant.what]
            finally:
                CHECKERS[name] = checker
    return len(changed), alive


def are_killed(name: str, folder: Path) -> None:
    count, alive = survivors(name, folder)
    killed = 1 - len(alive) / count
    assert killed >= FLOORS[name], "\n".join([f"{killed:.0%} of {count} killed; alive:", *alive])


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
