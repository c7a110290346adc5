"""What is wrong with a command line is said in a sentence, with exit code 2, before anything is made or started."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import cli
from harness.cli import claims
from harness.core.errors import ExitCode

DOWN = 'name = "down"\n[regions.one]\napi = "http://127.0.0.1:9"\nstream = "http://127.0.0.1:9"\n'
SCENARIO = """
name = "a"
about = "x"
target = "{target}"
[load]
reads = "5/s"
[[phase]]
name = "a"
duration = "5s"
"""
Feedstorm = Callable[..., tuple[int, str]]


@pytest.fixture
def feedstorm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Feedstorm:
    """Runs a command in a folder with a.toml, whose target is down; gives its exit code and what it says."""
    monkeypatch.chdir(tmp_path)
    Path("down.toml").write_text(DOWN)
    Path("a.toml").write_text(SCENARIO.format(target=tmp_path / "down.toml"))
    Path("binary").write_bytes(bytes(range(128, 256)))
    Path("binary.gz").write_bytes(bytes(range(128, 256)))
    Path("torn.gz").write_bytes(gzip.compress(b"1 2\n")[:12])
    Path("empty").touch()
    Path("folder").mkdir()

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["feedstorm", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        assert told.out == ""
        assert isinstance(ended.value.code, int)
        return ended.value.code, told.err

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *((f"{one} --out =", "'--out': is empty") for one in ("run a.toml", "suite a.toml", "capacity a.toml")),
        *((f"{one} --out =", "'--out': is empty") for one in ("gameday a.toml", "selftest", "claims C3")),
        ("run a.toml --target =", "target: no profile ''"),
        ("run a.toml --target folder", "target: no profile 'folder'"),
        ("run =", "scenario '': unknown"),
        ("run folder", "scenario 'folder': unknown"),
        ("run a.toml --scale nan", "--scale: must be a number above 0, got nan"),
        ("run a.toml --workers 0", "--workers 0: no process is left to make the load"),
        ("run a.toml --seed 99999999999999999999", "seed: must be a whole number <= 9223372036854775807, got 9999"),
        ("run a.toml --set population.users=99999999999999999999", "users: must be a whole number <= 4294967295"),
        ("run a.toml --expect-workers 3", "--expect-workers: only with --master"),
        ("run a.toml --bind 127.0.0.1:7000", "--bind: only with --master"),
        ("run a.toml --set population.graph=edges:none", "population.graph: none: cannot be read: No such file or"),
        ("run a.toml --set population.graph=edges:folder", "folder: cannot be read: Is a directory"),
        ("run a.toml --set population.graph=edges:empty", "empty: expected at least one edge, found none"),
        ("run a.toml --set population.graph=edges:binary", "binary:1: expected two node numbers separated by blanks"),
        ("run a.toml --set population.graph=edges:torn.gz", "torn.gz: cannot be read: Compressed file ended before"),
        ("run a.toml --set population.graph=edges:binary.gz", "binary.gz: cannot be read: Not a gzipped file"),
        ("run a.toml --set load.trace=none", "none: cannot be read: No such file or directory"),
        ("run a.toml --set load.trace=folder", "folder: cannot be read: Is a directory"),
        ("suite a.toml b.toml", "scenario b.toml: no such file"),
        ("suite a.toml folder", "scenario 'folder': unknown"),
        ("claims C3 --write folder", "--write folder: is a directory"),
        ("claims C3 --write none/page.md", "--write none/page.md: there is no such folder"),
        ("faults inject kil a.cache", "kind: unknown fault kind 'kil' (did you mean 'kill'?)"),
        ("faults inject kill a.cache --dir binary", "'--dir': Directory 'binary' is a file"),
        *((f"faults {one} --runs none", "'--runs': there is no folder 'none'") for one in ("list", "stop", "allow")),
        ("faults undo --all --runs none", "'--runs': there is no folder 'none'"),
        ("up --rgions eu", "No such option '--rgions'. Did you mean '--regions'?"),
        ("worker http://127.0.0.1:9", "HOST: expected HOST or HOST:PORT, got 'http://127.0.0.1:9'"),
    ],
)
def test_bad_input(
    feedstorm: Feedstorm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, said: str
) -> None:
    monkeypatch.setattr(claims, "_measure", lambda *_, **__: pytest.fail("it would be measured"))
    before = sorted(tmp_path.rglob("*"))
    code, told = feedstorm(*("" if word == "=" else word for word in words.split()))
    assert said in told, told
    assert code == ExitCode.USAGE
    assert "Traceback" not in told
    assert sorted(tmp_path.rglob("*")) == before


def test_the_usual_folder_of_runs_need_not_be_there(feedstorm: Feedstorm) -> None:
    assert feedstorm("faults", "undo", "--all") == (0, "no fault is active\n")


def test_a_scenario_named_with_its_problem_is_not_named_twice(feedstorm: Feedstorm) -> None:
    _, told = feedstorm("suite", "a.toml", "nonesuch", "--set", "load.raeds=1/s")
    assert "feedstorm: a.toml: load.raeds: unknown key" in told
    assert "feedstorm: scenario 'nonesuch': unknown" in told
