"""The wrapper never takes a refusal, a server error or silence of an engine for success."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chaos_targets import free_port

from chaos import docker_engine
from chaos.containers import refusal
from chaos.docker_engine import CpuLimit, DockerEngine, Endpoint, EngineGone, NotThere, same_settings
from chaos.guard import validate
from chaos.handles import parse_handle
from chaos.kind import FaultError
from harness.core.scenario import FaultSpec

INSPECTED: dict[str, Any] = {
    "Id": "a" * 64,
    "Name": "/web",
    "State": {"Running": True, "Paused": False, "Pid": 0, "StartedAt": "2026-01-01T00:00:00Z"},
    "Config": {"Labels": None},
    "HostConfig": {"NanoCpus": 0, "CpuQuota": 0, "CpuPeriod": 0, "AutoRemove": False},
    "NetworkSettings": {"Networks": {"host": {"NetworkID": "b" * 64, "IPAddress": "", "Aliases": None}}},
}


@pytest.fixture
def broken() -> Iterator[Callable[[int, bytes], DockerEngine]]:
    """An engine that tells its version, and answers everything else alike."""
    servers: list[HTTPServer] = []

    def start(status: int, body: bytes) -> DockerEngine:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told = (200, b'{"ApiVersion":"1.41"}') if self.path == "/version" else (status, body)
                self.send_response(told[0])
                self.send_header("Content-Length", str(len(told[1])))
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(told[1])

            do_POST = do_GET

            def log_message(self, *args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return DockerEngine(f"tcp://127.0.0.1:{server.server_port}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (500, b'{"message":"no space left on device"}', "no space left on device"),
        (500, b"<html>", "<html>"),
        (200, b"<html>", "no JSON"),
        (200, b"[]", "not what a Docker engine answers"),
        (200, b"{}", "not what a Docker engine answers"),
    ],
)
def test_nonsense_is_an_error(
    broken: Callable[[int, bytes], DockerEngine], status: int, body: bytes, message: str
) -> None:
    with pytest.raises(FaultError, match=message):
        broken(status, body).container("web")


def test_what_is_not_there_has_an_error_of_its_own(broken: Callable[[int, bytes], DockerEngine]) -> None:
    engine = broken(404, b'{"message":"No such container: web"}')
    with pytest.raises(NotThere, match="No such container: web"):
        engine.container("web")
    with pytest.raises(NotThere, match="No such container: web"):
        engine.set_cpu("web", CpuLimit(quota_us=1000))
    assert not engine.has_network("net")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda engine: engine.kill("web"), "down"),
        (lambda engine: engine.stop("web", 1), "down"),
        (lambda engine: engine.restart("web", 1), "restarted"),
        (lambda engine: engine.pause("web"), "paused"),
        (lambda engine: engine.set_cpu("web", CpuLimit(quota_us=1000)), r"limited to 0\.01 CPUs"),
        (lambda engine: engine.disconnect("web", Endpoint(network="n", network_id="b" * 64)), "out of network n"),
        (lambda engine: engine.connect("web", Endpoint(network="n", network_id="c" * 64)), "in network n as before"),
    ],
)
def test_a_change_that_did_not_happen_is_an_error(
    broken: Callable[[int, bytes], DockerEngine],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[DockerEngine], None],
    wanted: str,
) -> None:
    """The engine says yes to everything, and all stays as it was."""
    monkeypatch.setattr(docker_engine, "SETTLE_TIMEOUT_S", 0.05)
    with pytest.raises(FaultError, match=f"does not read back as {wanted}"):
        change(broken(200, msgspec.json.encode(INSPECTED)))


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(EngineGone, match="no Docker engine answers"):
        DockerEngine(f"tcp://127.0.0.1:{free_port()}").container("web")
    with pytest.raises(EngineGone, match=r"no Docker engine answers \(No such file or directory\)"):
        DockerEngine(f"unix://{tmp_path}/docker.sock").container("web")
    left = socket.socket(socket.AF_UNIX)
    left.bind(f"{tmp_path}/docker.sock")
    left.close()  # the socket file of a dead engine
    with pytest.raises(EngineGone, match=r"no Docker engine answers \(Connection refused\)"):
        DockerEngine(f"unix://{tmp_path}/docker.sock").container("web")


def test_silence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_engine, "TIMEOUT_S", 0.1)
    with (
        socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as silent,
        pytest.raises(FaultError, match=r"no answer within 0\.1 s"),
    ):
        DockerEngine(f"tcp://127.0.0.1:{silent.server_address[1]}").container("web")


def test_environment_proxies_are_not_used(
    broken: Callable[[int, bytes], DockerEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert broken(200, msgspec.json.encode(INSPECTED)).container("web").name == "web"


def test_an_unlabelled_container_and_an_engine_that_is_away_are_refused(
    broken: Callable[[int, bytes], DockerEngine],
) -> None:
    table = {"backend": "container", "container": "web", "ready": "http://127.0.0.1:1/"}
    url = broken(200, msgspec.json.encode(INSPECTED)).url
    assert "does not carry the label feedstorm.chaos=allowed" in refusal(parse_handle("web", {**table, "docker": url}))
    allowed = {**INSPECTED, "Config": {"Labels": {"feedstorm.chaos": "allowed"}}}
    url = broken(200, msgspec.json.encode(allowed)).url
    assert refusal(parse_handle("web", {**table, "docker": url})) == ""
    away = {"web": {**table, "docker": f"tcp://127.0.0.1:{free_port()}"}}
    (problem,) = validate({"f": FaultSpec(kind="container-kill", handle="web", hold_s=1)}, away)
    assert problem.startswith("f.handle: web: tcp://127.0.0.1:")
    assert "no Docker engine answers" in problem


@pytest.mark.parametrize(
    ("docker", "problem"),
    [
        ("tcp://10.0.0.7:2375", "address '10.0.0.7' is not on this machine (allow it with --allow-host 10.0.0.7)"),
        ("ssh://10.0.0.7", "docker must be unix:///path or tcp://host:port, got 'ssh://10.0.0.7'"),
        ("tcp://127.0.0.1", "docker must be unix:///path or tcp://host:port"),
        ("unix://", "docker must be unix:///path or tcp://host:port"),
    ],
)
def test_only_engines_of_this_machine(docker: str, problem: str) -> None:
    handle = {"backend": "container", "container": "web", "docker": docker, "ready": "http://127.0.0.1:1/"}
    (found,) = validate({"f": FaultSpec(kind="container-kill", handle="web", hold_s=1)}, {"web": handle})
    assert problem in found


def test_the_order_of_aliases_means_nothing() -> None:
    one = Endpoint(network="n", network_id="1", settings={"Aliases": ["a", "b"], "IPAMConfig": {"IPv4Address": "x"}})
    other = Endpoint(network="n", network_id="1", settings={"IPAMConfig": {"IPv4Address": "x"}, "Aliases": ["b", "a"]})
    assert same_settings(one, other)
    assert not same_settings(one, Endpoint(network="n", network_id="1", settings={"Aliases": ["a", "b"]}))


def test_limits_in_cpus() -> None:
    assert CpuLimit().cpus is None
    assert CpuLimit(quota_us=-1, period_us=50_000).cpus is None
    assert CpuLimit(nano_cpus=250_000_000).cpus == 0.25
    assert CpuLimit(quota_us=25_000).cpus == 0.25
    assert CpuLimit(quota_us=25_000, period_us=50_000).cpus == 0.5
