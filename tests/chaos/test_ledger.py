"""The ledger survives torn lines and strangers, and healing goes on past failures."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest

from chaos.faults.cache_flush import FlushPlan
from chaos.ledger import Ledger, heal, open_faults
from chaos.processes import read_state
from harness.core.errors import ResidueError

PLAN = FlushPlan(("127.0.0.1:1",), "mark")


def ids(path: Path) -> list[str]:
    return [row.id for row in open_faults(path)]


def test_open_until_done(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.open("f1", "cache-flush", "a", PLAN)
    ledger.open("f2", "cache-flush", "b", PLAN)
    ledger.failed("f1", "no")
    ledger.done("f2", "yes")
    assert ids(ledger.path) == ["f1"]
    assert msgspec.convert(open_faults(ledger.path)[0].plan, FlushPlan) == PLAN


def test_no_ledger_is_nothing_to_heal(tmp_path: Path) -> None:
    assert heal(tmp_path / "none.jsonl") == []
    assert list(tmp_path.iterdir()) == []


def test_a_torn_last_line_is_skipped_and_ended(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.open("f1", "cache-flush", "a", PLAN)
    with ledger.path.open("ab") as file:
        file.write(b'{"row":"open","id":"f2","ki')
    assert ids(ledger.path) == ["f1"]
    ledger.done("f1", "yes")
    assert ids(ledger.path) == []


def test_a_line_that_is_no_text_is_skipped(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.path.write_bytes(b'{"row":"open","id":"f0","detail":"\xff\xfe"}\n')
    ledger.open("f1", "cache-flush", "a", PLAN)
    assert ids(ledger.path) == ["f1"]


def test_a_full_disk_is_an_error() -> None:
    with pytest.raises(OSError, match="No space"):
        Ledger(Path("/dev/full")).open("f1", "cache-flush", "a", PLAN)


def test_heal_goes_on_past_what_it_cannot_undo(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.open("f1", "cache-flush", "a", PLAN)
    ledger.open("f2", "earthquake", "b", PLAN)
    ledger.open("f3", "kill", "c", PLAN)
    with pytest.raises(ResidueError) as caught:
        heal(ledger.path)
    assert "f2 (earthquake on b): this version knows no fault kind 'earthquake'" in str(caught.value)
    assert "f3 (kill on c): the plan in the ledger is not one of kill" in str(caught.value)
    assert ids(ledger.path) == ["f2", "f3"]


def test_faults_of_a_living_process_are_left_to_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.open("f1", "cache-flush", "a", PLAN)
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        state = read_state(stranger.pid)
        assert state is not None
        row = open_faults(ledger.path)[0]
        row.writer = state.identity
        ledger.path.write_bytes(msgspec.json.encode(row) + b"\n")
        assert heal(ledger.path) == [f"f1 (cache-flush on a): left to process {stranger.pid}, which runs it"]
    finally:
        stranger.kill()
        stranger.wait()
    assert heal(ledger.path) == ["f1 (cache-flush on a): nothing to undo: a cache refills by itself"]
