"""`feedstorm faults`: what is wrong with a command line is said before anything is touched; lists are honest."""

import sys

import msgspec
import pytest

from chaos.faults import KINDS
from chaos.faults.cache_flush import FlushPlan
from chaos.ledger import Ledger, open_faults
from harness import cli
from harness.core.errors import ExitCode

HANDLES = {"handles": {"a.cache": {"backend": "process", "pid_file": "none.pid", "memcached": ["127.0.0.1:1"]}}}


@pytest.fixture
def feedstorm(monkeypatch, capsys, tmp_path):
    """Runs a command; gives (exit code, standard output, standard error). {name} in a word becomes a path."""
    for name in ("empty", "broken", "stack", "runs"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "endpoints.json").write_text("{")
    (tmp_path / "stack" / "endpoints.json").write_bytes(msgspec.json.encode(HANDLES))

    def run(*words):
        places = {name: str(tmp_path / name) for name in ("empty", "broken", "stack", "runs")}
        argv = ["feedstorm", "faults", *(word.format(**places) for word in words)]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return ended.value.code, told.out, told.err

    return run


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["injekt"], ExitCode.USAGE, "injekt"),
        (["inject", "kill"], ExitCode.USAGE, "HANDLE"),
        (
            ["inject", "kil", "a.cache", "--dir", "{stack}"],
            ExitCode.USAGE,
            "kind: unknown fault kind 'kil' (did you mean 'kill'?)",
        ),
        (["inject", "kill", "a.cash", "--dir", "{stack}"], ExitCode.USAGE, "did you mean 'a.cache'?"),
        (["inject", "kill", "b.*", "--dir", "{stack}"], ExitCode.USAGE, "handle"),
        (["inject", "kill", "a.cache", "--dir", "{stack}"], ExitCode.USAGE, "needs hold_file and ready"),
        (["inject", "cache-flush", "a.cache", "--dir", "{stack}", "--for", "soon"], ExitCode.USAGE, "--for: "),
        (["inject", "cache-flush", "a.cache", "--dir", "{stack}", "--param", "x"], ExitCode.USAGE, "KEY=VALUE"),
        (
            ["inject", "cache-flush", "a.cache", "--dir", "{stack}", "--param", "x=1"],
            ExitCode.USAGE,
            "unknown parameter",
        ),
        (
            ["inject", "cpu-hog", "a.cache", "--dir", "{stack}", "--param", "pin=true", "--param", "workers=0"],
            ExitCode.USAGE,
            "feedstorm: workers: must be a whole number from 1 to 256, got 0\n",
        ),
        (["inject", "cache-flush", "a.cache", "--dir", "{empty}"], ExitCode.ENVIRONMENT, "feedstorm up"),
        (["inject", "cache-flush", "a.cache", "--dir", "{broken}"], ExitCode.ENVIRONMENT, "endpoints.json"),
        (["inject", "cache-flush", "a.cache", "--dir", "{stack}", "--run", "x"], ExitCode.USAGE, "exclude each other"),
        (["inject", "cache-flush", "a.cache", "--run", "nosuchrun"], ExitCode.USAGE, "no such run directory"),
        (["inject", "cache-flush", "a.cache", "--target", "nosuch"], ExitCode.USAGE, "nosuch"),
        (
            ["inject", "cache-flush", "a.cache", "--dir", "{stack}", "--runs", "{runs}"],
            ExitCode.ENVIRONMENT,
            "Connection refused",
        ),
        (["undo", "--runs", "{runs}"], ExitCode.USAGE, "name faults by their id"),
        (["undo", "--all", "h1", "--runs", "{runs}"], ExitCode.USAGE, "name faults by their id"),
        (["undo", "h1", "--runs", "{runs}"], ExitCode.USAGE, "no active fault 'h1'"),
    ],
)
def test_errors(feedstorm, words, code, said):
    got, out, err = feedstorm(*words)
    assert (got, out) == (code, "")
    assert said in err


def test_kinds_are_told_with_their_parameters(feedstorm):
    code, out, _ = feedstorm("kinds", "--json")
    assert code == ExitCode.PASS
    assert [kind["name"] for kind in msgspec.json.decode(out)] == list(KINDS)
    _, table, _ = feedstorm("kinds")
    assert all(name in table for name in KINDS)


def test_active_faults_are_listed_undone_and_forbidden(feedstorm, tmp_path):
    ledger = Ledger(tmp_path / "runs" / "r1" / "ledger.jsonl")
    ledger.path.parent.mkdir()
    for number in (1, 2):
        ledger.open(f"f{number}", "cache-flush", f"c{number}", FlushPlan(("127.0.0.1:1",), "mark"), lease_s=60)
    _, out, _ = feedstorm("list", "--json", "--runs", "{runs}")
    told = msgspec.json.decode(out)
    assert [(one["id"], one["kind"], one["handle"], one["run"]) for one in told["faults"]] == [
        ("f1", "cache-flush", "c1", "r1"),
        ("f2", "cache-flush", "c2", "r1"),
    ]
    assert all(0 <= one["since_s"] < 30 < one["lease_left_s"] <= 60 for one in told["faults"])
    code, _, err = feedstorm("undo", "f1", "--runs", "{runs}")
    assert code == ExitCode.PASS
    assert "f1 (cache-flush on c1): nothing to undo" in err
    assert [row.id for row in open_faults(ledger.path)] == ["f2"]
    code, _, err = feedstorm("stop", "--reason", "enough", "--runs", "{runs}")
    assert code == ExitCode.PASS
    assert open_faults(ledger.path) == []
    code, _, err = feedstorm("inject", "cache-flush", "a.cache", "--dir", "{stack}", "--runs", "{runs}")
    assert code == ExitCode.ENVIRONMENT
    assert "faults are forbidden: enough" in err
    assert "allowed again" in feedstorm("allow", "--runs", "{runs}")[2]
    _, out, _ = feedstorm("list", "--runs", "{runs}")
    assert out.strip() == "no fault is active"


def test_what_cannot_be_undone_is_residue(feedstorm, tmp_path):
    ledger = Ledger(tmp_path / "runs" / "r1" / "ledger.jsonl")
    ledger.path.parent.mkdir()
    ledger.open("f1", "earthquake", "a", FlushPlan(("127.0.0.1:1",), "mark"))
    code, _, err = feedstorm("undo", "--all", "--runs", "{runs}")
    assert code == ExitCode.RESIDUE
    assert "f1 (earthquake on a): this version knows no fault kind 'earthquake'" in err
    assert [row.id for row in open_faults(ledger.path)] == ["f1"]
    code, _, err = feedstorm("forget", "f1", "--runs", "{runs}")
    assert code == ExitCode.PASS
    assert "f1 (earthquake on a): forgotten, not undone" in err
    assert open_faults(ledger.path) == []
    assert feedstorm("forget", "f1", "--runs", "{runs}")[0] == ExitCode.USAGE
