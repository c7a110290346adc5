"""What is particular to the faults on edges: where tokens never are, what is cut, what passes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chaos_targets import Target, make_case, talk, wait_for
from store_targets import TOKEN, edge_target, feed_target, pages_served, unread_streams
from test_store_faults import kill_for_good, planned

from chaos.connections import established, sockets_of
from chaos.faults import KINDS
from chaos.kind import FaultError, parse_parameters
from chaos.marks import marked
from chaos.processes import members

pytestmark = pytest.mark.slow


# --- slow readers


def test_tokens_are_nowhere_but_in_requests(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = edge_target(request, tmp_path)
    kind, plan = planned(target, "slow-readers", streams=3)
    kind.inject(plan)
    (reader,) = marked(plan.mark)
    process = Path(f"/proc/{reader.pid}")
    told = [(process / "cmdline").read_bytes(), (process / "environ").read_bytes(), msgspec.json.encode(plan)]
    told += [kind.witness(plan, 5).evidence.encode(), kind.undo(plan).encode()]
    assert not any(TOKEN.encode() in text for text in told)


def test_a_refused_token_fails_the_fault(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = edge_target(request, tmp_path)
    Path(target.handle["token_file"]).write_text("another-token\n")
    kind, plan = planned(target, "slow-readers")
    with pytest.raises(FaultError, match=r"answers HTTP/1\.1 401") as caught:
        kind.inject(plan)
    assert "another-token" not in str(caught.value)
    kind.undo(plan)


@pytest.mark.parametrize(("content", "problem"), [(None, "no tokens can be read"), ("\n", "holds no token")])
def test_without_tokens_there_are_no_readers(
    request: pytest.FixtureRequest, tmp_path: Path, content: str | None, problem: str
) -> None:
    target = edge_target(request, tmp_path)
    Path(target.handle["token_file"]).unlink()
    if content is not None:
        Path(target.handle["token_file"]).write_text(content)
    with pytest.raises(FaultError, match=problem):
        planned(target, "slow-readers")


def test_readers_that_are_cut_come_back(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = edge_target(request, tmp_path)
    kind, plan = planned(target, "slow-readers", streams=5, reconnect="200ms")
    kind.inject(plan)
    os.kill(target.leader.identity.pid, signal.SIGKILL)
    wait_for(lambda: unread_streams(target.port) == 0, what="all are cut")
    wait_for(lambda: unread_streams(target.port) == 5, what="all are back")
    kind.undo(plan)
    assert unread_streams(target.port) == 0


# --- the greedy client


def test_the_greedy_clients_token_is_nowhere_but_in_requests(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = feed_target(request, tmp_path)
    kind, plan = planned(target, "greedy-client", rate="200/s")
    kind.inject(plan)
    (client,) = marked(plan.mark)
    process = Path(f"/proc/{client.pid}")
    told = [(process / "cmdline").read_bytes(), (process / "environ").read_bytes(), msgspec.json.encode(plan)]
    told += [kind.witness(plan, 5).evidence.encode(), kind.undo(plan).encode()]
    assert not any(TOKEN.encode() in text for text in told)


def test_refusals_are_answers_too(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A client that is refused goes on, and its witness tells how often it was."""
    target = feed_target(request, tmp_path)  # which allows 50 a second
    kind, plan = planned(target, "greedy-client", rate="300/s")
    kind.inject(plan)
    wait_for(lambda: pages_served(target.port) > 200, what="it is well over what is allowed")
    witness = kind.witness(plan, 5)
    kind.undo(plan)
    assert witness.ok, witness.evidence
    found = re.match(r"(\d+) answers/s of \S+, (\d+)/s of them refusals; asked for: 300/s", witness.evidence)
    assert found is not None, witness.evidence
    assert 0 < int(found[2]) <= int(found[1])


def test_a_greedy_client_comes_back_to_a_feed_that_was_away(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = feed_target(request, tmp_path)
    kind, plan = planned(target, "greedy-client", rate="100/s")
    kind.inject(plan)
    os.kill(target.leader.identity.pid, signal.SIGKILL)
    wait_for(lambda: target.leader is not None and pages_served_or_none(target.port) > 0, what="it is asked again")
    kind.undo(plan)


def test_a_greedy_client_does_not_wait_for_answers(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """As many requests are under way as it may have connections, when nobody answers."""
    target = feed_target(request, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        target.handle["reads"] = f"http://127.0.0.1:{port}/v1/feed"
        kind, plan = planned(target, "greedy-client", rate="500/s", connections=30)
        kind.inject(plan)
        wait_for(lambda: len(unanswered(port)) == 30, what="all ask")
        kind.undo(plan)


def unanswered(port: int) -> list[str]:
    """Connections to the port that sent something, and were not accepted."""
    told = subprocess.run(
        ["ss", "-Htn", "state", "established", f"( sport = :{port} )"], capture_output=True, text=True, check=True
    )
    return [line for line in told.stdout.splitlines() if int(line.split()[0]) > 0]


def pages_served_or_none(port: int) -> int:
    try:
        return pages_served(port)
    except OSError:
        return 0


def test_it_acts_as_no_more_users_than_there_are(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with pytest.raises(FaultError, match="holds fewer than 2 tokens"):
        planned(feed_target(request, tmp_path), "greedy-client", users=2)


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"rate": "0/s"}, "rate: must be more than 0/s and at most 20000/s"),
        ({"rate": "30000/s"}, "rate: must be more than 0/s and at most 20000/s"),
        ({"connections": 4001}, "connections: must be at most 4000"),
        ({"users": 0}, "users: must be a whole number >= 1"),
    ],
)
def test_what_it_cannot_be_asked_for(params: dict[str, Any], problem: str) -> None:
    [found] = parse_parameters(KINDS["greedy-client"], params)[1]
    assert found.startswith(problem)


# --- mass disconnect


def test_only_the_stream_port_is_cut(service: Target, request: pytest.FixtureRequest) -> None:
    """And only of the handle's own processes."""
    case = make_case(request, "mass-disconnect")
    with socket.create_server(("127.0.0.1", 0)) as ours, socket.create_connection(ours.getsockname()[:2]) as other:
        accepted, _ = ours.accept()
        kind, plan = planned(case)
        kind.inject(plan)
        assert case.active()
        accepted.sendall(b"still here")
        assert other.recv(100) == b"still here"
        accepted.close()
    assert talk(service.port) == b"got hi\n"  # it takes new ones


def test_nobody_connected_is_nothing_to_cut(service: Target) -> None:
    service.handle["stream"] = f"http://127.0.0.1:{service.port}/"
    wait_for(lambda: not connected_to(service), what="earlier connections are closed")
    with pytest.raises(FaultError, match="nothing to cut"):
        planned(service, "mass-disconnect")


def test_a_node_that_died_has_no_connections(request: pytest.FixtureRequest) -> None:
    case = make_case(request, "mass-disconnect")
    kind, plan = planned(case)
    kill_for_good(case.target)
    kind.inject(plan)
    assert "nothing to undo" in kind.undo(plan)


def connected_to(target: Target) -> list[Any]:
    sockets = sockets_of(state.identity for state in members(target.leader.identity))
    return [connection for connection in established(sockets) if connection.port == target.port]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_connections_are_listed_as_they_are(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    with server, socket.create_connection(server.getsockname()[:2]) as client:
        accepted, (peer_host, peer_port, *_) = server.accept()
        with accepted:
            client.sendall(b"seven b")
            inode = os.fstat(accepted.fileno()).st_ino
            wait_for(lambda: established({inode})[0].unread_bytes == 7, what="the bytes are there")
            (found,) = established({inode})
            assert (found.host, found.port) == server.getsockname()[:2]
            assert (found.peer_host, found.peer_port) == (peer_host, peer_port)


# --- the buffering proxy


def test_a_full_buffer_is_passed_on(link: Target) -> None:
    kind, plan = planned(link, "buffering-proxy", buffer="64B")
    kind.inject(plan)
    with socket.create_connection(("127.0.0.1", link.port), timeout=5) as sock:
        sock.sendall(b"one\n")
        sock.settimeout(0.4)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        sock.settimeout(5)
        sock.sendall(b"two\n" * 10)
        with sock.makefile("rb") as replies:
            assert [replies.readline() for _ in range(8)] == [b"got one\n", *[b"got two\n"] * 7]
    kind.undo(plan)
    assert talk(link.port) == b"got hi\n"


def test_a_silent_sender_is_cut(link: Target) -> None:
    kind, plan = planned(link, "buffering-proxy", idle="300ms")
    kind.inject(plan)
    with socket.create_connection(("127.0.0.1", link.port), timeout=5) as sock:
        sock.sendall(b"one\n")
        with sock.makefile("rb") as replies:
            assert replies.read() == b"got one\n"
    kind.undo(plan)


def test_another_fault_on_the_link_is_undone_meanwhile(link: Target) -> None:
    kind, plan = planned(link, "latency", latency="100ms")
    kind.inject(plan)
    buffering, buffering_plan = planned(link, "buffering-proxy")
    buffering.inject(buffering_plan)
    kind.undo(plan)
    assert {attributes["latency"] for attributes in link.toxics().values()} == {30}
    buffering.undo(buffering_plan)
    assert talk(link.port) == b"got hi\n"
