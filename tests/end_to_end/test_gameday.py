"""A game day at a real terminal: load, a fault from a second one, keys, a verdict."""

import json
import os
import pty
import re
import signal
import subprocess
import threading
import time

import pytest
from small_runs import ROOT, checks, command, fault_rows, phase, phases, wait_until, write_scenario

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(180)]

NS_PER_S = 1e9
PLANNED = '{ kind = "kill", handle = "us-east.api", at = "1s", hold = "5s" }'


class GameDay:
    """`feedstorm gameday` at a pseudo-terminal, in a folder of runs of its own."""

    def __init__(self, folder, *words):
        self.runs = folder / "runs"
        self.run = self.runs / "day"
        scenario = write_scenario(folder, phase("stormy", 20, PLANNED))
        self.terminal, theirs = pty.openpty()
        os.set_blocking(self.terminal, True)
        self.process = subprocess.Popen(
            command("gameday", scenario, "--out", self.run, *words),
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "50"},
            start_new_session=True,
        )
        os.close(theirs)
        self.shown = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                block = os.read(self.terminal, 1 << 16)
            except OSError:
                return
            self.shown = (self.shown + re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", block.decode(errors="replace")))[-60_000:]

    def wait_shown(self, words, timeout_s=20):
        wait_until(lambda: words in self.shown or self.process.poll() is not None, timeout_s, f"{words!r} is shown")
        assert words in self.shown, self.shown

    def wait_live(self):
        live = self.run / "live.json"
        wait_until(lambda: live.exists() or self.process.poll() is not None, 90, "the game day is under way")
        assert self.process.poll() is None, self.shown

    def press(self, key):
        os.write(self.terminal, key.encode())

    def inject(self, *words):
        """In a second terminal."""
        return subprocess.Popen(
            command("faults", "inject", *words, "--runs", self.runs), cwd=ROOT, stderr=subprocess.DEVNULL
        )

    def active(self):
        return [row for row in fault_rows(self.run, "faults.by-hand.jsonl") if row.get("witnessed_ns")]

    def ends_with(self):
        return self.process.wait(90)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        os.close(self.terminal)


@pytest.fixture
def game_day(tmp_path):
    days = []

    def begin(*words):
        days.append(GameDay(tmp_path, *words))
        days[-1].wait_live()
        return days[-1]

    yield begin
    for day in days:
        day.close()


def test_a_fault_by_hand_is_shown_undone_at_the_end_and_judged(game_day):
    day = game_day()
    day.wait_shown("feed_read failures <= 90%")
    first = day.inject("pause", "us-east.jobs", "--for", "2s")
    assert first.wait(30) == 0
    [undone] = [row["undone_ns"] for row in fault_rows(day.run, "faults.by-hand.jsonl")]
    wait_until(lambda: time.monotonic_ns() > undone + 4 * NS_PER_S, 10, "there was calm after the first fault")
    second = day.inject("pause", "us-east.memcached", "--for", "2m")
    wait_until(lambda: len(day.active()) == 2, 20, "the second fault is active")
    day.wait_shown("pause us-east.memcached")
    day.press("q")
    assert day.ends_with() == 0, day.shown
    assert second.wait(20) == 0

    rows = fault_rows(day.run)
    assert [row["phase"] for row in rows] == ["fault-1", "fault-2"]
    assert all(row["undo"]["ok"] and row["witness"]["ok"] for row in rows)
    stop = json.loads((day.run / "stop.json").read_text())
    assert stop["by_operator"] is True
    assert rows[1]["undone_ns"] < stop["ended_ns"] + 2 * NS_PER_S
    names = ["warmup", "baseline", "fault-1", "recovered-1", "fault-2"]
    assert list(phases(day.run))[:5] == names
    assert {phases(day.run)[name]["kind"] for name in names} == {"warmup", "baseline", "fault", "recovered"}
    [witness] = checks(day.run, "witness")
    assert (witness["verdict"], witness["value"]) == ("pass", 2)
    assert "PASS small" in day.shown
    assert "us-east.memcached" in (day.run / "report.html").read_text()
    assert not (day.run / "live.json").exists()
    assert not (day.run / "stack").exists()


def test_a_key_forbids_faults_and_undoes_the_active_ones(game_day):
    day = game_day()
    fault = day.inject("pause", "us-east.jobs", "--for", "2m")
    wait_until(day.active, 20, "the fault is active")
    day.press("f")
    fault.wait(20)
    assert all(row["undone_ns"] for row in fault_rows(day.run, "faults.by-hand.jsonl"))
    day.wait_shown("new faults are forbidden")
    refused = day.inject("pause", "us-east.jobs", "--for", "1s")
    assert refused.wait(20) == 4
    day.press("a")
    wait_until(lambda: not list(day.runs.glob("faults-forbidden")), 10, "faults are allowed")
    allowed = day.inject("pause", "us-east.jobs", "--for", "1s")
    assert allowed.wait(20) == 0
    day.press("q")
    assert day.ends_with() == 0, day.shown


def test_it_ends_by_itself(game_day):
    day = game_day("--for", "4s")
    assert day.ends_with() == 0, day.shown
    assert list(phases(day.run)) == ["warmup", "baseline"]
    assert fault_rows(day.run) == []


@pytest.mark.parametrize("sig", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)])
def test_when_it_is_interrupted_the_fault_by_hand_is_undone(game_day, sig):
    day = game_day()
    fault = day.inject("pause", "us-east.jobs", "--for", "2m")
    wait_until(day.active, 20, "the fault is active")
    day.process.send_signal(sig)
    assert day.ends_with() == 130, day.shown
    fault.wait(20)
    [row] = fault_rows(day.run, "faults.by-hand.jsonl")
    assert row["undone_ns"]
    assert row["undo"]["ok"]
    assert not (day.run / "live.json").exists()
