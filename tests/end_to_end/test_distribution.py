"""Whole runs whose load comes from several processes: judged as one; a worker that is killed leaves them unproven."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
from shared_runs import generator_of, port_of, started, write_secret
from small_runs import phase, wait_until, write_scenario

from harness.core.errors import ExitCode
from harness.record.clocks import read_clocks
from harness.record.parquet import open_history
from harness.record.run_directory import RunDirectory

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(180)]

TARGET = ("--target", "tests/conformance/memory_feed.toml")
EXPECT = """
[expect]
"feed_read" = ["failures == 0"]
"invariants" = ["durability", "no_phantom", "order", "sse_completeness"]
"""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return write_secret(tmp_path)


def test_a_run_over_two_machines_is_judged_as_one(tmp_path: Path, secret: Path) -> None:
    out, scratch = tmp_path / "run", tmp_path / "scratch"
    scratch.mkdir()
    scenario = write_scenario(tmp_path, phase("steady", 4), expect=EXPECT)
    shared = ("--master", "--bind", "127.0.0.1:0", "--secret-file", secret, "--workers", "2")
    run = started(tmp_path / "run.txt", "run", scenario, "--out", out, *TARGET, *shared)
    words = (f"127.0.0.1:{port_of(run)}", "--secret-file", secret)
    worker = started(tmp_path / "worker.txt", "worker", *words, env={"TMPDIR": str(scratch)})
    assert run.wait(120) == ExitCode.PASS, (tmp_path / "run.txt").read_text()
    assert worker.wait(30) == 0, (tmp_path / "worker.txt").read_text()
    generator = generator_of(out)
    assert (generator["verdict"], generator["of_all"]) == ("pass", "pass")
    parts = {"locust-0", "locust-1", "locust-2", "streams-0", "streams-1"}
    assert set(read_clocks(RunDirectory(out).clocks)) == parts
    with open_history(RunDirectory(out)) as history:
        rows = history.execute("SELECT kind, id >> 38 FROM ops WHERE kind IN ('feed', 'event', 'post')").fetchall()
    writers = {kind: Counter(writer for one, writer in rows if one == kind) for kind in ("post", "event")}
    assert (len(writers["post"]), len(writers["event"])) == (3, 2)
    assert list(scratch.iterdir()) == []
    assert [path.name for path in out.rglob("*token*")] == []


def test_a_run_that_loses_its_worker_is_inconclusive(tmp_path: Path, secret: Path) -> None:
    out = tmp_path / "run"
    scenario = write_scenario(tmp_path, phase("steady", 6), expect=EXPECT)
    shared = ("--master", "--bind", "127.0.0.1:0", "--secret-file", secret)
    run = started(tmp_path / "run.txt", "run", scenario, "--out", out, *TARGET, *shared)
    worker = started(tmp_path / "worker.txt", "worker", f"127.0.0.1:{port_of(run)}", "--secret-file", secret)
    wait_until(lambda: (out / "phases.json").exists() or run.poll() is not None, 90, "the load begins")
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    assert run.wait(120) == ExitCode.INCONCLUSIVE, (tmp_path / "run.txt").read_text()
    generator = generator_of(out)
    assert (generator["verdict"], generator["of_all"]) == ("inconclusive", "inconclusive")
    assert "locust-1 did not finish: the process was lost" in str(generator["reason"])
    assert "streams-1 did not finish" in str(generator["reason"])
