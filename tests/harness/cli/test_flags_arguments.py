"""`feedstorm flags`: what is wrong with a command line is said before anything is asked."""

import sys

import pytest

from harness import cli
from harness.cli.flags import parse_value
from harness.core.errors import ExitCode


@pytest.mark.parametrize(
    ("word", "value"),
    [("on", True), ("OFF", False), ("true", True), ("3", 3), ("-2", -2), ("0.5", 0.5), ("push", "push"), ("", "")],
)
def test_words_become_values(word, value):
    parsed = parse_value(word)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["list", "two_tier"], ExitCode.USAGE, "did you mean: flags set two_tier"),
        (["set"], ExitCode.USAGE, "set needs NAME=VALUE"),
        (["set", "two_tier"], ExitCode.USAGE, "must be NAME=VALUE, got 'two_tier'"),
        (["set", "=off"], ExitCode.USAGE, "must be NAME=VALUE, got '=off'"),
        (["reset", "two_tier=off"], ExitCode.USAGE, "must be NAME, got 'two_tier=off'"),
        (["sett", "two_tier=off"], ExitCode.USAGE, "sett"),
        (["--dir", "{empty}"], ExitCode.ENVIRONMENT, "feedstorm up"),
        (["--dir", "{broken}"], ExitCode.ENVIRONMENT, "stack in"),
        (["--api", "http://127.0.0.1:1"], ExitCode.USAGE, "go together"),
        (["--api", "http://127.0.0.1:1", "--token-file", "{empty}/none"], ExitCode.USAGE, "/none: No such file"),
        (["--api", "http://127.0.0.1:1", "--token-file", "{empty}"], ExitCode.USAGE, "/empty: Is a directory"),
        (["--api", "http://[::1", "--token-file", "{token}"], ExitCode.USAGE, "--api: "),
        (["--api", "http://127.0.0.1:99999", "--token-file", "{token}"], ExitCode.USAGE, "--api: "),
        (["--api", "127.0.0.1:1", "--token-file", "{token}"], ExitCode.USAGE, "--api: must be a base URL"),
        (["--api", "http://10.0.0.1", "--token-file", "{token}"], ExitCode.USAGE, "10.0.0.1 is not this machine"),
        (["--api", "http://127.0.0.1:1", "--token-file", "{token}"], ExitCode.ENVIRONMENT, "does not answer"),
    ],
)
def test_errors(monkeypatch, capsys, tmp_path, words, code, said):
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "endpoints.json").write_text("{")
    (tmp_path / "token").write_text("secret\n")
    places = {name: str(tmp_path / name) for name in ("empty", "broken", "token")}
    monkeypatch.setattr(sys, "argv", ["feedstorm", "flags", *(word.format(**places) for word in words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    assert ended.value.code == code
    assert said in told.err
    assert told.out == ""
