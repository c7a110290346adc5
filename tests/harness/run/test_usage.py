"""Who runs how much: real processes, and looks that are made up."""

import os
import subprocess
import sys

import msgspec
import pytest

from harness.judge.saturation import LOAD, TARGET
from harness.load.machine import read_parents
from harness.run.usage import HARNESS, Look, Ran, look, owners, part_of, usage_between

S = 1_000_000_000


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.communicate(b"\n")


def test_a_handle_owns_the_process_in_its_pid_file_and_the_rest_is_told_by_what_it_runs(child, tmp_path):
    pid_file, profile = tmp_path / "api.pid", tmp_path / "target.json"
    pid_file.write_text(f"{child.pid} {os.getpid()}\n")  # its start time, which may be anybody's pid
    handles = {"here.api": {"pid_file": str(pid_file)}, "link": {"proxy": "x"}, "gone": {"pid_file": "/nowhere"}}
    profile.write_bytes(msgspec.json.encode({"handles": handles}))
    found = owners(profile, read_parents())
    assert found[child.pid] == ("here.api", TARGET)
    assert found[os.getpid()] == (HARNESS, LOAD)
    assert found.keys() >= look(profile).threads[HARNESS, LOAD].keys() & {os.getpid()}
    assert owners(tmp_path / "absent.json", read_parents())[child.pid][1] == TARGET


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (["python", "-m", "harness.load.locust_process", "/plan", "locust-1", "1", "2"], ("generator locust-1", LOAD)),
        (["python", "-m", "harness.load.null_probe", "/x", "40"], ("generator null_probe", LOAD)),
        (["python", "-m", "some.server", "up"], ("target some.server", TARGET)),
        (["/usr/bin/python3", "/x/memory_feed.py", "--users", "9"], ("target memory_feed.py", TARGET)),
        (["/usr/bin/memcached", "-p", "1"], ("target memcached", TARGET)),
        ([""], ("target", TARGET)),
    ],
)  # fmt: skip
def test_a_process_is_named_by_its_command(command, part):
    assert part_of(command, is_this=False) == part


def test_the_busiest_thread_is_what_a_part_is_limited_by():
    api, graph = ("api", TARGET), ("graph", TARGET)
    first = Look(0, {api: {1: Ran(0, 0), 2: Ran(5 * S, 0)}})
    last = Look(10 * S, {api: {1: Ran(9 * S, S), 2: Ran(7 * S, 0), 3: Ran(S, 0)}, graph: {9: Ran(S, S)}})
    usage = usage_between(first, last, 4)
    assert (usage.processors, usage.seconds) == (4, 10.0)
    [only] = usage.parts  # the graph was there at one look only
    assert (only.part, only.busiest, only.in_line, only.cores) == ("api", 0.9, 0.1, 1.1)
    assert usage.cores_of(TARGET) == 1.1
    assert usage.cores_of(LOAD) == 0
