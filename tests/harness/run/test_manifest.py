"""A run says which code it was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness.run.manifest import CODE, ROOT, git_state


def git(root: Path, *words: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *words], cwd=root, check=True, capture_output=True
    )


def test_only_changes_of_the_code_count(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {}
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "clock.py").write_text("1")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    (tmp_path / "mine.toml").write_text("")
    clean = git_state(tmp_path)
    assert (len(clean["head"]), clean["dirty"]) == (40, False)
    (tmp_path / "harness" / "clock.py").write_text("2")
    assert git_state(tmp_path) == clean | {"dirty": True}


def test_the_code_is_there() -> None:
    assert all((ROOT / path).exists() for path in CODE)
