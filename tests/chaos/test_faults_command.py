"""`feedstorm faults` on a real target, from one terminal and from another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from chaos_targets import Target, wait_for

from chaos.ledger import open_faults
from chaos.schedule import read_rows

pytestmark = pytest.mark.slow


@pytest.fixture
def feedstorm(service: Target, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `feedstorm faults ...` with the service as target."""
    stack, runs = tmp_path / "stack", tmp_path / "runs"
    stack.mkdir()
    (stack / "endpoints.json").write_bytes(msgspec.json.encode({"handles": service.handles}))
    started: list[subprocess.Popen[str]] = []

    def start(action: str, *words: str) -> subprocess.Popen[str]:
        places = ["--runs", str(runs), *(["--dir", str(stack)] if action == "inject" else [])]
        command = [sys.executable, "-m", "harness.cli", "faults", action, *words, *places]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_fault_lasts_as_long_as_was_asked(
    service: Target, feedstorm: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    inject = feedstorm("inject", "pause", "service", "--for", "1500ms", "--json")
    wait_for(lambda: set(service.states()) == {"T"}, what="the pause")
    out, err = inject.communicate(timeout=20)
    assert inject.returncode == 0, err
    (row,) = msgspec.json.decode(out)
    assert row["witness"]["ok"]
    assert row["undo_started_ns"] - row["injected_ns"] >= 1.5e9
    assert "T" not in service.states()
    assert [one.id for one in read_rows(tmp_path / "runs" / "by-hand" / "faults.by-hand.jsonl")] == [row["id"]]


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_command_ends_the_fault(
    service: Target, feedstorm: Callable[..., subprocess.Popen[str]], tmp_path: Path, sig: signal.Signals
) -> None:
    inject = feedstorm("inject", "pause", "service", "--for", "60s")
    ledger = tmp_path / "runs" / "by-hand" / "ledger.jsonl"
    wait_for(lambda: set(service.states()) == {"T"}, what="the pause")
    os.kill(inject.pid, sig)
    assert inject.wait(10) == (-sig if sig is signal.SIGKILL else 130)
    wait_for(lambda: not open_faults(ledger), 5, "undone")
    assert "T" not in service.states()


@pytest.mark.parametrize("action", ["undo", "stop"])
def test_a_second_terminal_undoes_it(
    service: Target, feedstorm: Callable[..., subprocess.Popen[str]], action: str
) -> None:
    inject = feedstorm("inject", "pause", "service", "--for", "60s")
    wait_for(lambda: set(service.states()) == {"T"}, what="the pause")
    other = feedstorm(action, *(["--all"] if action == "undo" else []))
    assert other.wait(20) == 0
    assert "T" not in service.states()
    assert inject.wait(20) == 0


def test_faults_of_two_terminals_do_not_take_each_other_for_residue(
    service: Target, feedstorm: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    long = feedstorm("inject", "pause", "service", "--for", "60s")
    wait_for(lambda: set(service.states()) == {"T"}, what="the pause")
    short = feedstorm("inject", "fd-exhaustion", "service", "--for", "1s")
    _, err = short.communicate(timeout=30)
    assert short.returncode in (0, 3), err
    assert "left behind" not in err
    os.kill(long.pid, signal.SIGINT)
    assert long.wait(20) == 130
