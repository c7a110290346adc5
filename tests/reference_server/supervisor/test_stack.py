"""Whole lives of real stacks: up, restarts, holds, and every way to end, after which nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stack_process import StackProcess, wait_until

from reference_server.supervisor.readiness import is_ready

pytestmark = [pytest.mark.stack, pytest.mark.slow]
Start = Callable[..., StackProcess]
STORES = ["memcached", "redis-queue", "redis-cache"]


def command(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reference_server", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=os.environ | (env or {}),
    )


def serves(probe: str) -> bool:
    return asyncio.run(is_ready(probe))


def proxies(stack: StackProcess) -> dict[str, Any]:
    url = stack.endpoints["handles"]["link.us-east.ap-tokyo"]["api"]
    with urllib.request.urlopen(f"{url}/proxies", timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_up_writes_endpoints_and_leaves_nothing(start_stack: Start) -> None:
    stack = start_stack("--only", "").await_ready()
    endpoints = stack.endpoints
    assert set(endpoints["regions"]) == {"us-east", "ap-tokyo"}
    for region in ("us-east", "ap-tokyo"):
        for name in STORES:
            handle = endpoints["handles"][f"{region}.{name}"]
            assert handle["backend"] == "process"
            assert handle["region"] == region
            assert Path(handle["pid_file"]).read_text().split()[0] == str(stack.pid(f"{region}.{name}"))
            assert serves(handle["ready"])
            assert os.getpgid(stack.pid(f"{region}.{name}")) == stack.pid(f"{region}.{name}")
    assert endpoints["handles"]["us-east.memcached"]["memcached"]
    assert len(stack.members()) == 2 * len(STORES) + 1
    sockets = stack.settings.sockets
    assert stack.end() == (0, "", "")
    assert stack.members() == []
    assert not Path(sockets).exists()
    assert not stack.stack.endpoints.exists()


def test_links_delay_each_way(start_stack: Start) -> None:
    stack = start_stack("--only", "", "--link-latency-ms", "70").await_ready()
    settings = stack.settings
    for source, target in (("us-east", "ap-tokyo"), ("ap-tokyo", "us-east")):
        proxy = proxies(stack)[f"{source}--{target}"]
        assert proxy["listen"] == f"127.0.0.1:{settings.region(target).peers[source]}"
        assert proxy["upstream"] == f"127.0.0.1:{settings.region(source).replicator_port}"
        toxics = {(t["name"], t["stream"], t["attributes"]["latency"]) for t in proxy["toxics"]}
        assert toxics == {("wan_down", "downstream", 70), ("wan_up", "upstream", 70)}


def test_killed_part_is_restarted_unless_held(start_stack: Start) -> None:
    stack = start_stack("--only", "").await_ready()
    hold = Path(stack.endpoints["handles"]["us-east.memcached"]["hold_file"])
    hold.touch()
    stack.kill("us-east.memcached")
    stack.restart("us-east.redis-cache")
    assert not stack.pid("us-east.memcached"), "a held part came back with one that died later"
    hold.unlink()
    wait_until(lambda: stack.pid("us-east.memcached"), "memcached back after its hold")
    wait_until(lambda: serves(stack.endpoints["handles"]["us-east.memcached"]["ready"]), "memcached serves")


def test_toxiproxy_gets_its_links_back(start_stack: Start) -> None:
    stack = start_stack("--only", "").await_ready()
    before = proxies(stack)
    stack.restart("toxiproxy")

    def same() -> bool:
        try:
            return proxies(stack) == before
        except OSError:
            return False

    wait_until(same, "links as before")


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_all(start_stack: Start, sig: signal.Signals) -> None:
    stack = start_stack("--only", "graph").await_ready()
    stack.process.send_signal(sig)
    assert stack.process.wait(timeout=15) == 0
    assert stack.members() == []


def test_sigkill_of_the_supervisor_leaves_nothing(start_stack: Start) -> None:
    stack = start_stack("--only", "graph").await_ready()
    os.kill(stack.pid("us-east.redis-cache"), signal.SIGSTOP)
    sockets = Path(stack.settings.sockets)
    stack.process.kill()
    wait_until(lambda: not stack.members(), "all processes gone")
    wait_until(lambda: not sockets.exists(), "socket directory gone")


def test_end_during_start(start_stack: Start) -> None:
    stack = start_stack("--only", "graph")
    running = wait_until(stack.stack.running, "supervisor there")
    wait_until(lambda: stack.pid("us-east.redis-queue"), "first parts there")
    stack.mark = running.marker
    assert stack.end()[0] == 0
    assert stack.members() == []


def test_data_and_secret_outlive_a_stack(start_stack: Start) -> None:
    first = start_stack("--only", "", "--users", "77").await_ready()
    settings, seed = first.settings, first.stack.seed.read_text()
    port = settings.regions[0].redis_queue_port
    subprocess.run(["redis-cli", "-p", str(port), "SET", "kept", "yes"], check=True, capture_output=True)
    first.end()
    second = start_stack("--only", "").await_ready()
    assert second.settings.secret == settings.secret
    assert second.settings.users == 77
    assert second.stack.seed.read_text() == seed
    port = second.settings.regions[0].redis_queue_port
    kept = subprocess.run(["redis-cli", "-p", str(port), "GET", "kept"], check=True, capture_output=True, text=True)
    assert kept.stdout.strip() == "yes"


def test_second_up_in_the_same_directory_is_refused(start_stack: Start) -> None:
    first = start_stack("--only", "").await_ready()
    status, _, message = start_stack("--only", "").end()
    assert status == 4
    assert "already runs" in message
    assert len(message.splitlines()) == 1
    assert first.process.poll() is None


def test_detach_status_down(tmp_path: Path) -> None:
    where = ("--dir", str(tmp_path / "stack"))
    try:
        up = command("up", *where, "--only", "graph", "--detach")
        assert (up.returncode, up.stdout) == (0, "ready\n"), up.stderr
        status = json.loads(command("status", *where, "--json").stdout)
        assert status["ready"]
        assert status["handles"]["us-east.graph"]["state"] == "ready"
        os.killpg(status["handles"]["us-east.graph"]["pid"], signal.SIGSTOP)
        assert "paused" in command("status", *where).stdout
    finally:
        down = command("down", *where)
    assert (down.returncode, down.stdout) == (0, "ended\n")
    assert command("status", *where).returncode == 4
    assert command("down", *where).stdout == "not running\n"


def test_detached_failure_is_reported(tmp_path: Path) -> None:
    up = command("up", "--dir", str(tmp_path / "s"), "--detach", env={"FEEDSTORM_TOXIPROXY": "/bin/false"})
    assert up.returncode == 4
    assert "toxiproxy ended with status 1 before it was ready" in up.stderr


def test_missing_program(tmp_path: Path) -> None:
    up = command("up", "--dir", str(tmp_path / "s"), env={"PATH": "/nonexistent"})
    assert up.returncode == 4
    assert up.stderr == "memcached is not installed; install it with: apt-get install memcached\n"


def test_without_toxiproxy_links_are_direct(start_stack: Start) -> None:
    stack = start_stack("--only", "", env={"FEEDSTORM_TOXIPROXY": "none"}).await_ready()
    assert stack.endpoints["missing"] == ["toxiproxy"]
    assert not [name for name in stack.endpoints["handles"] if name.startswith("link.")]
    east, tokyo = stack.settings.regions
    assert tokyo.peers == {"us-east": east.replicator_port}


def test_part_that_dies_at_start_is_named_with_its_log(start_stack: Start, tmp_path: Path) -> None:
    program = tmp_path / "toxiproxy-server"
    program.write_text("#!/bin/sh\necho port is mine >&2\nexit 3\n")
    program.chmod(0o755)
    stack = start_stack("--only", "", env={"FEEDSTORM_TOXIPROXY": str(program)})
    status, _, message = stack.end()
    assert status == 4
    assert "toxiproxy ended with status 3 before it was ready" in message
    assert "toxiproxy.log (last line: port is mine)" in message


def test_part_that_never_gets_ready_is_named(start_stack: Start, tmp_path: Path) -> None:
    program = tmp_path / "toxiproxy-server"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    stack = start_stack("--only", "", "--ready-timeout", "0.5", env={"FEEDSTORM_TOXIPROXY": str(program)})
    assert stack.process.wait(timeout=15) == 4
    assert "toxiproxy was not ready within 0.5 s" in stack.end()[2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--defect", "no-wall"], "unknown defect 'no-wall' (did you mean 'no-wal'?)"),
        (["--flag", "wal"], "must be KEY=VALUE"),
        (["--users", "0"], "must be a whole number >= 1"),
        (["--regions", "a,a"], "must be different names"),
        (["--only", "grap"], "did you mean 'graph'?"),
        (["--population", "/nonexistent"], "no such directory"),
    ],
)
def test_wrong_usage(tmp_path: Path, words: list[str], sentence: str) -> None:
    up = command("up", "--dir", str(tmp_path / "s"), *words)
    assert up.returncode == 2
    assert sentence in up.stderr
    assert "Traceback" not in up.stderr
