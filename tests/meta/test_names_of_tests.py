"""Test folders are no packages: pytest imports each file by its bare name, so a name may be used once."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

TESTS = Path(__file__).parents[1]
MANY = {"conftest.py"}
"""pytest tells these apart"""


def used_twice(files: Iterable[Path]) -> dict[str, list[str]]:
    """Names of several files, with their folders."""
    found = list(files)
    count = Counter(path.name for path in found)
    doubled = sorted({name for name in count if count[name] > 1} - MANY)
    return {name: sorted(str(path.parent) for path in found if path.name == name) for name in doubled}


def test_no_two_files_of_tests_have_one_name():
    files = [path.relative_to(TESTS) for path in TESTS.rglob("*.py")]
    assert len(files) > 100
    assert used_twice(files) == {}


def test_two_files_of_one_name_are_seen():
    files = map(Path, ("a/conftest.py", "b/conftest.py", "a/test_x.py", "b/c/test_x.py", "b/test_y.py"))
    assert used_twice(files) == {"test_x.py": ["a", "b/c"]}
