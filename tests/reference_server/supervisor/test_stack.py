"""Whole lives of real stacks: up, restarts, holds, and every way to end, after which nothing is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from real_servers import wait_until
from stack_process import StackProcess

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


def test_links_that_toxiproxy_does_not_take_at_once_come_later(start_stack: Start) -> None:
    stack = start_stack("--only", "").await_ready()
    before = proxies(stack)
    hold = stack.stack.hold_file("toxiproxy")
    hold.touch()
    stack.kill("toxiproxy")
    port = stack.settings.region("ap-tokyo").peers["us-east"]

    def taken() -> socket.socket | None:
        try:
            return socket.create_server(("127.0.0.1", port))
        except OSError:
            return None

    with wait_until(taken, "toxiproxy gives its port back"):
        hold.unlink()
        log = stack.stack.log("supervisor")
        wait_until(lambda: "did not take the links" in log.read_text(), "links were refused")
    wait_until(lambda: proxies(stack) == before, "links as before")


@pytest.mark.parametrize(
    ("obstacle", "said"),
    [
        ("logs/us-east.memcached-0.log", "us-east.memcached: cannot write its log"),
        ("pids/.us-east.memcached.pid.{supervisor}", "us-east.memcached: cannot write its pid file"),
        (".restarts.json.{supervisor}", "cannot count restarts"),
    ],
)
def test_a_file_that_cannot_be_written_for_a_while_costs_no_part_its_supervision(
    start_stack: Start, obstacle: str, said: str
) -> None:
    stack = start_stack("--only", "").await_ready()
    running = stack.stack.running()
    assert running is not None
    count = len(stack.members())
    path = stack.stack.path / obstacle.format(supervisor=running.pid)
    path.unlink(missing_ok=True)
    path.mkdir()
    stack.kill("us-east.memcached")
    wait_until(lambda: said in stack.stack.log("supervisor").read_text(), "said so")
    path.rmdir()
    wait_until(lambda: stack.pid("us-east.memcached"), "memcached back")
    stack.restart("us-east.memcached")
    wait_until(lambda: serves(stack.endpoints["handles"]["us-east.memcached"]["ready"]), "memcached serves")
    assert len(stack.members()) == count


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
        shown = command("status", *where).stdout
        assert "paused" in shown
        assert "MiB" in shown
    finally:
        down = command("down", *where)
    assert (down.returncode, down.stdout) == (0, "ended\n")
    status_of_none = command("status", *where)
    assert (status_of_none.returncode, status_of_none.stdout) == (4, "")
    assert "no stack is running in" in status_of_none.stderr
    assert command("status", *where, "--watch").returncode == 4
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


def test_without_haproxy_regions_have_no_edge(start_stack: Start) -> None:
    only = ("--only", "edge", "--regions", "us-east")
    stack = start_stack(*only, env={"FEEDSTORM_HAPROXY": "none"}).await_ready()
    endpoints = stack.endpoints
    assert endpoints["missing"] == ["haproxy"]
    assert (endpoints["regions"]["us-east"]["edge"], endpoints["ca_file"]) == ("", "")
    assert "us-east.edge" not in endpoints["handles"]


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


@pytest.mark.parametrize("background", [(), ("--detach",)])
def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path, background: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    up = command("up", "--dir", str(tmp_path / "file"), *background)
    assert up.returncode == 4
    assert str(tmp_path / "file") in up.stderr
    assert len(up.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--defect", "no-wall"], "unknown defect 'no-wall' (did you mean 'no-wal'?)"),
        (["--flag", "wal"], "must be NAME=VALUE"),
        (["--users", "0"], "must be a whole number >= 1"),
        (["--regions", "a,a"], "must be different names"),
        (["--only", "grap"], "did you mean 'graph'?"),
        (["--population", "/nonexistent"], "no such directory"),
        (["--popul", "/nonexistent"], "unrecognized arguments: --popul"),
        (["--feps", "65"], "must be a whole number from 1 to 64"),
        (["--link-latency-ms", "30001"], "must be a whole number from 0 to 30000"),
        (["--proxy", "us-east.api-to-memcache"], "no link 'us-east.api-to-memcache' (such as us-east.api-to-memcached"),
    ],
)
def test_wrong_usage(tmp_path: Path, words: list[str], sentence: str) -> None:
    up = command("up", "--dir", str(tmp_path / "s"), *words)
    assert up.returncode == 2
    assert sentence in up.stderr
    assert "Traceback" not in up.stderr


def test_a_link_within_a_region_gets_a_proxy_on_demand_only(start_stack: Start) -> None:
    asked = ("--proxy", "us-east.api-to-memcached-1", "--proxy", "ap-tokyo.fanout-to-redis-queue")
    stack = start_stack("--only", "", "--memcacheds", "2", *asked).await_ready()
    east, tokyo = stack.settings.regions
    links = {name: h for name, h in stack.endpoints["handles"].items() if h["backend"] == "toxiproxy"}
    assert set(links) == {"link.us-east.ap-tokyo", "link.ap-tokyo.us-east", asked[1], asked[3]}
    assert links[asked[1]]["regions"] == ["us-east"]
    found = proxies(stack)
    assert found[asked[1]]["upstream"] == f"127.0.0.1:{east.memcached_ports[1]}"
    assert found[asked[1]]["listen"] == f"127.0.0.1:{east.proxied['api-to-memcached-1']}"
    assert found[asked[3]]["upstream"] == f"127.0.0.1:{tokyo.redis_queue_port}"
    assert found[asked[3]]["toxics"] == []
    assert set(east.proxied | tokyo.proxied) == {"api-to-memcached-1", "fanout-to-redis-queue"}
    with socket.create_connection(("127.0.0.1", east.proxied["api-to-memcached-1"]), timeout=5) as sock:
        sock.sendall(bytes.fromhex(links[asked[1]]["probe"]))
        assert sock.recv(100).startswith(b"STAT pid")


def test_the_network_is_all_links_between_regions(start_stack: Start) -> None:
    stack = start_stack("--only", "", "--regions", "a,b,c", "--proxy", "a.api-to-memcached").await_ready()
    network = stack.endpoints["handles"]["network"]
    assert {link["proxy"] for link in network["links"]} == {f"{x}--{y}" for x in "abc" for y in "abc" if x != y}
    assert all("--".join(link["regions"]) == link["proxy"] for link in network["links"])


def test_without_toxiproxy_links_within_a_region_are_direct_too(start_stack: Start) -> None:
    asked = ("--proxy", "us-east.api-to-memcached")
    stack = start_stack("--only", "", *asked, env={"FEEDSTORM_TOXIPROXY": "none"}).await_ready()
    assert stack.settings.regions[0].proxied == {}
    assert asked[1] not in stack.endpoints["handles"]
