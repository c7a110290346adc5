"""Faults on links: what traffic sees of each, and that faults, and toxics of others, never get in each other's way."""

from __future__ import annotations

import contextlib
import random
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from chaos_targets import Target, assert_as_before, free_port, talk
from link_targets import WAN, cut, link_case, proxies

from chaos import links
from chaos.cuts import BlackHole
from chaos.faults import KINDS
from chaos.handles import parse_handle
from chaos.kind import FaultError, parse_parameters
from chaos.toxics import ToxicPlan
from chaos.toxiproxy import Toxic

pytestmark = pytest.mark.slow


def planned(target: Target, name: str, **params: Any) -> tuple[Any, Any]:
    kind = KINDS[name]
    parsed, problems = parse_parameters(kind, params)
    assert not problems
    return kind, kind.plan(parse_handle(target.name, target.handle), parsed)


@contextmanager
def injected(target: Target, name: str, **params: Any) -> Iterator[tuple[Any, Any]]:
    kind, plan = planned(target, name, **params)
    kind.inject(plan)
    try:
        yield kind, plan
    finally:
        kind.undo(plan)


def connect(link: Target) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=5)


def read_all(sock: socket.socket) -> bytes:
    """What comes until the connection ends in order. Raises ConnectionResetError."""
    data = b""
    while chunk := sock.recv(4096):
        data += chunk
    return data


def no_delay(link: Target) -> None:
    for name in WAN:
        link.server.remove_toxic("a--b", name)


def test_bandwidth_lets_through_so_much_a_second(link: Target) -> None:
    with injected(link, "bandwidth", rate="10kB/s", direction="one-way"), connect(link) as sock:
        began = time.monotonic()
        sock.sendall(b"x" * 2995 + b"\n")
        with sock.makefile("rb") as replies:
            assert len(replies.readline()) == 3000
        assert 0.3 <= time.monotonic() - began < 10


def test_slices_arrive_one_by_one(link: Target) -> None:
    with injected(link, "slicer", size="10B", delay="20ms", direction="one-way"), connect(link) as sock:
        sock.sendall(b"x" * 36 + b"\n")
        pieces = []
        while sum(map(len, pieces)) < 41:
            pieces.append(sock.recv(4096))
        assert len(pieces) >= 4
        assert max(map(len, pieces)) <= 10


class Generous(socketserver.BaseRequestHandler):
    """Answers little with much."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while self.request.recv(100):
                self.request.sendall(b"x" * 5000)


class Crowded(socketserver.ThreadingTCPServer):
    request_queue_size = 200
    daemon_threads = True


@pytest.fixture
def generous(link: Target) -> Iterator[Target]:
    """The link, without delay, to an upstream that is fast enough for many clients at once."""
    server = Crowded(("127.0.0.1", 0), Generous)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    link.server.remove_proxy("a--b")
    link.server.create_proxy("a--b", f"127.0.0.1:{link.port}", f"127.0.0.1:{server.server_address[1]}")
    yield link
    server.shutdown()
    server.server_close()


def test_slices_are_taken_away_while_clients_come_and_go(generous: Target) -> None:
    """While toxiproxy's slicer holds data for a client that has just gone, its removal would never end."""
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), connect(generous) as sock:
                sock.sendall(b"x")
                sock.recv(random.choice([1, 500, 4000]))
            over.wait(random.random() / 50)

    clients = [threading.Thread(target=come_and_go) for _ in range(25)]
    for client in clients:
        client.start()
    try:
        for _ in range(15):
            with injected(generous, "slicer", size="200B", delay="3ms"):
                over.wait(0.08)
            assert generous.toxics() == {}
    finally:
        over.set()
        for client in clients:
            client.join()


def test_reset_breaks_new_connections_with_their_first_data(link: Target) -> None:
    with connect(link) as old:
        old.sendall(b"one\n")
        assert old.recv(100) == b"got one\n"
        with injected(link, "reset", after="300ms"):
            with connect(link) as sock:
                began = time.monotonic()
                sock.sendall(b"hi\n")
                with pytest.raises(ConnectionResetError):
                    sock.recv(1)
                assert time.monotonic() - began >= 0.29
            old.sendall(b"two\n")
            assert read_all(old) == b""


def test_some_connections_are_spared(link: Target) -> None:
    no_delay(link)
    with injected(link, "reset", toxicity=0.5, direction="one-way"):
        seen = set()
        while len(seen) < 2:
            try:
                seen.add(talk(link.port))
            except ConnectionResetError:
                seen.add(b"reset")
        assert seen == {b"got hi\n", b"reset"}


def test_data_is_cut_off_at_the_limit(link: Target) -> None:
    with injected(link, "limit-data", bytes="6B", direction="one-way"), connect(link) as sock:
        sock.sendall(b"hello\n")
        assert read_all(sock) == b"got he"


def test_slow_close_keeps_the_other_side_waiting(link: Target) -> None:
    with injected(link, "slow-close", delay="400ms", direction="one-way"), connect(link) as sock:
        sock.sendall(b"hi\n")
        assert sock.recv(100) == b"got hi\n"
        sock.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        assert sock.recv(1) == b""
        assert time.monotonic() - began >= 0.39


def test_down_breaks_connections_and_refuses_others(link: Target) -> None:
    with connect(link) as sock, injected(link, "down"):
        with pytest.raises(ConnectionRefusedError):
            talk(link.port)
        sock.settimeout(5)
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
        with pytest.raises(FaultError, match="is disabled"):
            planned(link, "latency", latency="300ms")
    assert link.toxics() == WAN


def test_a_link_whose_port_was_taken_meanwhile_is_no_undo(link: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "GONE_GRACE_S", 0.3)
    kind, plan = planned(link, "down")
    kind.inject(plan)
    with socket.create_server(("127.0.0.1", link.port)), pytest.raises(FaultError):
        kind.undo(plan)
    kind.undo(plan)
    assert talk(link.port) == b"got hi\n"


def test_an_upstream_that_is_down_is_no_proof_that_a_link_is(link: Target) -> None:
    no_delay(link)
    link.server.remove_proxy("a--b")
    link.server.create_proxy("a--b", f"127.0.0.1:{link.port}", f"127.0.0.1:{free_port()}")
    with injected(link, "down") as (kind, plan):
        witness = kind.witness(plan, 1)
    assert not witness.ok
    assert "itself refuses" in witness.evidence


@pytest.mark.parametrize("name", ["bandwidth", "slicer", "reset", "slow-close", "limit-data", "down", "partition"])
def test_toxics_of_others_stay_as_they_are(request: pytest.FixtureRequest, link: Target, name: str) -> None:
    case = link_case(request, name)
    theirs = Toxic(name="theirs", type="slicer", stream="upstream", attributes={"average_size": 7}, toxicity=0.25)
    link.server.set_toxic("a--b", theirs)
    before = link.server.proxy("a--b").toxics
    with injected(link, case.kind, **case.params):
        changed = Toxic(name="theirs", type="slicer", stream="upstream", attributes={"average_size": 9}, toxicity=0.5)
        link.server.set_toxic("a--b", changed)
    after = {t.name: t for t in link.server.proxy("a--b").toxics}
    assert after.keys() == {t.name for t in before}
    assert (after["theirs"].attributes["average_size"], after["theirs"].toxicity) == (9, 0.5)


def test_two_of_a_kind_do_not_undo_each_other(link: Target) -> None:
    kind, first = planned(link, "partition")
    _, second = planned(link, "partition")
    kind.inject(first)
    kind.inject(second)
    kind.undo(first)
    assert kind.witness(second, 3).ok
    kind.undo(second)
    assert link.toxics() == WAN


def test_a_latency_beside_it_is_not_taken_for_a_slow_link(link: Target) -> None:
    link.handle["probe"] = (b"x" * 99 + b"\n").hex()
    kind, plan = planned(link, "bandwidth", rate="200kB/s")
    with injected(link, "latency", latency="200ms"):
        witness = kind.witness(plan, 5)
    assert not witness.ok
    assert "too" not in witness.evidence


@pytest.mark.parametrize(
    ("name", "params"),
    [("bandwidth", {"rate": "1000kB/s"}), ("limit-data", {"bytes": "10MB"}), ("slicer", {"size": "100kB"})],
)
def test_what_a_probe_cannot_show_has_no_witness(link: Target, name: str, params: dict[str, str]) -> None:
    link.handle["probe"] = b"no line".hex()  # which the service never answers
    with injected(link, name, **params) as (kind, plan):
        witness = kind.witness(plan, 3)
    assert not witness.ok
    assert "upstream" in witness.evidence


def test_a_reply_shorter_than_the_limit_proves_nothing(link: Target) -> None:
    with injected(link, "limit-data", bytes="10MB") as (kind, plan):
        witness = kind.witness(plan, 3)
    assert not witness.ok
    assert "none can be cut" in witness.evidence


@pytest.mark.parametrize(
    ("name", "params", "problem"),
    [
        ("bandwidth", {"rate": "500B/s"}, "rate: must be whole kilobytes a second such as 100kB/s, at least 1kB/s"),
        ("bandwidth", {"rate": "10kB"}, "rate: must be whole kilobytes"),
        ("bandwidth", {"rate": 10}, "rate: must be whole kilobytes"),
        ("slicer", {"size": "0B"}, "size: must be at least 1B"),
        ("slicer", {"size": "5"}, "size: must be a size such as"),
        ("slicer", {"size": "5B", "delay": "0ms"}, "delay: must be from 1ms to 0.5s"),
        ("reset", {"after": "3s"}, "after: must be from 0ms to 2s"),
        ("reset", {"toxicity": 0}, "toxicity: must be a ratio above 0, up to 1, got 0"),
        ("reset", {"toxicity": "half"}, "toxicity: must be a ratio"),
        ("slow-close", {}, "delay: is required"),
        ("limit-data", {"bytes": "many"}, "bytes: must be a size"),
        ("isolate", {"region": " "}, "region: must be a non-empty text"),
        ("ring", {"order": "a,b,c"}, "order: must be 4 or more different regions"),
        ("ring", {"order": "a,b,c,a"}, "order: must be 4 or more different regions"),
    ],
)
def test_bad_parameters_are_named(name: str, params: dict[str, Any], problem: str) -> None:
    problems = parse_parameters(KINDS[name], params)[1]
    assert any(p.startswith(problem) for p in problems), problems


def test_a_variation_as_large_as_the_slice_is_refused(link: Target) -> None:
    with pytest.raises(FaultError, match="must be less than size"):
        planned(link, "slicer", size="10B", variation="10B")


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("isolate", {"region": "bb"}, "no link of this network touches a region 'bb'"),
        ("isolate", {"region": "a", "from": "x"}, "touches a region 'x'"),
        ("isolate", {"region": "a", "from": "a"}, "cannot be isolated from itself"),
        ("ring", {"order": "a,b,c,x"}, "order must name each region of this network once: a, b, c, d"),
    ],
)
def test_regions_that_are_not_there_are_named(mesh: Target, name: str, params: dict[str, str], message: str) -> None:
    with pytest.raises(FaultError, match=message):
        planned(mesh, name, **params)
    assert not cut(mesh)


def test_three_regions_are_no_ring(mesh: Target) -> None:
    mesh.handle["links"] = [link for link in mesh.handle["links"] if "d" not in link["regions"]]
    with pytest.raises(FaultError, match="a ring needs 4 regions or more"):
        planned(mesh, "ring")


def test_links_that_a_ring_keeps_still_serve(mesh: Target) -> None:
    with injected(mesh, "ring"):
        kept = [state for name, state in proxies(mesh).items() if name not in cut(mesh)]
        assert len(kept) == 8
        for state in kept:
            assert talk(int(state.listen.rpartition(":")[2])) == b"got hi\n"


def test_one_link_that_cannot_be_healed_keeps_none_of_the_others_cut(
    request: pytest.FixtureRequest, mesh: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, plan = planned(mesh, "isolate", region="b")
    kind.inject(plan)
    undo = BlackHole.undo

    def stuck(hole: BlackHole, one: ToxicPlan) -> str:
        if one.link.proxy == "b--c":
            raise FaultError("stuck")
        return undo(hole, one)

    monkeypatch.setattr(BlackHole, "undo", stuck)
    with pytest.raises(FaultError, match="b--c: stuck"):
        kind.undo(plan)
    assert cut(mesh) == {"b--c"}
    monkeypatch.undo()
    kind.undo(plan)
    assert_as_before(link_case(request, "isolate"))


def test_one_link_that_carries_data_is_no_isolation(mesh: Target) -> None:
    kind, plan = planned(mesh, "isolate", region="b")
    kind.inject(plan)
    (toxics,) = [one.toxics for one in plan.cuts if one.link.proxy == "b--c"]
    for toxic in toxics:
        mesh.server.remove_toxic("b--c", toxic.name)
    witness = kind.witness(plan, 3)
    assert not witness.ok
    assert "a reply came through b--c" in witness.evidence
    kind.undo(plan)
