"""Every kind: takes effect, is witnessed, is undone; twice is fine; a target that is gone is fine."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from chaos_targets import LINK_KINDS, Case, Target, assert_as_before, end, make_case, memcached, talk, wait_for
from link_targets import LINK_CASES

from chaos import supervised
from chaos.faults import KINDS
from chaos.handles import Handle, parse_handle
from chaos.kind import FaultError, parse_parameters
from chaos.processes import Identity, members, read_state, send
from chaos.toxiproxy import ToxiproxyServer

pytestmark = pytest.mark.slow


def planned(case: Case) -> tuple[Any, Any]:
    kind = KINDS[case.kind]
    params, problems = parse_parameters(kind, case.params)
    assert not problems
    return kind, kind.plan(parse_handle(case.target.name, case.target.handle), params)


def test_injected_witnessed_undone(case: Case) -> None:
    kind, plan = planned(case)
    kind.inject(plan)
    wait_for(case.active, what="the effect")
    witness = kind.witness(plan, 5.0)
    assert witness.ok, witness.evidence
    assert kind.undo(plan)
    assert_as_before(case)
    assert kind.undo(plan)  # already undone is fine
    assert_as_before(case)


def test_undo_of_what_was_never_injected(case: Case) -> None:
    """Died between ledger and injection."""
    kind, plan = planned(case)
    kind.undo(plan)
    assert_as_before(case)


def test_without_its_effect_there_is_no_witness(case: Case) -> None:
    kind, plan = planned(case)
    if case.kind == "cache-flush":
        memcached(case.target.port, f"set {plan.mark} 0 0 1\r\n1\r\n")
    witness = kind.witness(plan, 2.5 if case.kind in (*LINK_KINDS, "buffering-proxy") else 0.3)
    assert not witness.ok
    assert "too short" not in witness.evidence


def test_target_dies_while_paused(service: Target) -> None:
    """Its supervisor starts another; a member that survived it is continued by the undo."""
    kind, plan = planned(Case("pause", service, lambda: True))
    kind.inject(plan)
    os.kill(plan.target.pid, signal.SIGKILL)
    wait_for(lambda: service.leader is not None and "T" not in service.states(), what="a restart")
    (survivor,) = members(plan.target)
    assert survivor.state == "T"
    kind.undo(plan)
    assert [m.state for m in members(plan.target)] == ["S"]
    send(survivor.identity, signal.SIGKILL)
    wait_for(lambda: not members(plan.target))
    assert "gone" in kind.undo(plan)


def test_supervisor_dies_while_its_target_is_killed(service: Target) -> None:
    """Then nobody can restart it, and nothing is left to undo."""
    kind, plan = planned(Case("kill", service, lambda: True))
    kind.inject(plan)
    end(service.supervisor)
    assert "gone" in kind.undo(plan)
    assert not Path(plan.hold_file).exists()


def test_killed_target_that_does_not_come_back_is_residue(service: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "READY_TIMEOUT_S", 0.3)
    kind, plan = planned(Case("kill", service, lambda: True))
    kind.inject(plan)
    assert service.supervisor is not None
    service.supervisor.send_signal(signal.SIGSTOP)
    with pytest.raises(FaultError, match="not ready again"):
        kind.undo(plan)
    service.supervisor.send_signal(signal.SIGCONT)
    monkeypatch.undo()
    kind.undo(plan)
    assert_as_before(Case("kill", service, lambda: True))


@pytest.mark.parametrize("name", [name for name in LINK_KINDS if name in KINDS])
def test_toxiproxy_dies_under_the_fault(request: pytest.FixtureRequest, name: str) -> None:
    case = make_case(request, name)
    kind, plan = planned(case)
    kind.inject(plan)
    end(case.target.toxiproxy)
    witness = kind.witness(plan, 0.6)
    assert not witness.ok
    assert "went with their proxy" in kind.undo(plan)


def test_a_restarted_toxiproxy_is_filled_by_two(link: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its supervisor adds the toxics that the undo finds missing: the undo looks again."""
    kind, plan = planned(Case("latency", link, lambda: True, {"latency": "50ms"}))
    kind.inject(plan)
    link.server.remove_toxic("a--b", "wan_up")
    seen: list[str] = []
    call = ToxiproxyServer._call

    def overtaken(server: ToxiproxyServer, verb: Any, path: str, **arguments: Any) -> Any:
        if path.endswith("/toxics") and not seen:
            seen.append(path)
            call(server, verb, path, **arguments)  # somebody else was faster
        return call(server, verb, path, **arguments)

    monkeypatch.setattr(ToxiproxyServer, "_call", overtaken)
    kind.undo(plan)
    assert seen
    assert_as_before(Case("latency", link, lambda: True))


@pytest.mark.parametrize("name", [name for name in LINK_CASES if name in KINDS])
def test_proxy_of_another_stack_is_left_alone(request: pytest.FixtureRequest, name: str) -> None:
    case = make_case(request, name)
    kind, plan = planned(case)
    server = case.target.server
    server.remove_proxy("a--b")
    server.create_proxy("a--b", "127.0.0.1:0", f"127.0.0.1:{case.target.upstream_port}")
    assert "another stack" in kind.undo(plan)
    assert case.target.toxics() == {}


def test_partition_stops_data_of_open_connections(link: Target) -> None:
    case = Case("partition", link, lambda: True)
    with socket.create_connection(("127.0.0.1", link.port), timeout=5) as sock:
        replies = sock.makefile("rb")
        sock.sendall(b"one\n")
        assert replies.readline() == b"got one\n"
        kind, plan = planned(case)
        kind.inject(plan)
        sock.sendall(b"two\n")
        sock.settimeout(0.4)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        kind.undo(plan)
        sock.settimeout(5)
        try:  # never the rest of a stream with a hole in it: the connection ends
            assert sock.recv(100) == b""
        except ConnectionResetError:
            pass
        replies.close()
    assert talk(link.port) == b"got hi\n"


def test_one_way_partition_lets_requests_through(link: Target) -> None:
    kind, plan = planned(Case("partition", link, lambda: True, {"direction": "one-way"}))
    kind.inject(plan)
    (hole,) = set(link.toxics()) - {"wan_down", "wan_up"}
    assert hole.startswith("feedstorm_partition_downstream_")
    kind.undo(plan)


def test_latency_delays_what_it_says(link: Target) -> None:
    kind, plan = planned(Case("latency", link, lambda: True, {"latency": "150ms"}))
    kind.inject(plan)
    began = time.monotonic()
    talk(link.port)
    assert time.monotonic() - began >= 0.29  # there and back
    witness = kind.witness(plan, 3)
    assert "was set to 60.0 ms" in witness.evidence
    kind.undo(plan)


def test_latency_of_an_upstream_that_answers_only_the_end_of_input(link: Target) -> None:
    """Then the delay of one direction is measured."""
    link.handle["probe"] = b"no line".hex()
    kind, plan = planned(Case("latency", link, lambda: True, {"latency": "150ms"}))
    kind.inject(plan)
    witness = kind.witness(plan, 3)
    assert witness.ok
    assert "one way (was set to 30.0 ms)" in witness.evidence
    kind.undo(plan)


def test_jitter_is_witnessed_by_the_spread(link: Target) -> None:
    kind, plan = planned(Case("latency", link, lambda: True, {"latency": "60ms", "jitter": "50ms"}))
    kind.inject(plan)
    assert kind.witness(plan, 5).ok
    kind.undo(plan)


def test_latency_on_a_link_without_delay(link: Target) -> None:
    for name in ("wan_up", "wan_down"):
        link.server.remove_toxic("a--b", name)
    kind, plan = planned(Case("latency", link, lambda: True, {"latency": "50ms"}))
    kind.inject(plan)
    assert kind.witness(plan, 3).ok
    kind.undo(plan)
    assert link.toxics() == {}


def test_latency_never_lowers_a_delay(link: Target) -> None:
    with pytest.raises(FaultError, match="already has 30 ms"):
        planned(Case("latency", link, lambda: True, {"latency": "5ms"}))


def test_latency_puts_back_a_toxic_that_vanished(link: Target) -> None:
    kind, plan = planned(Case("latency", link, lambda: True, {"latency": "50ms"}))
    kind.inject(plan)
    link.server.remove_toxic("a--b", "wan_up")
    kind.undo(plan)
    assert_as_before(Case("latency", link, lambda: True))


def test_upstream_that_is_down_gives_no_witness(link: Target, service: Target) -> None:
    """Silence of a dead upstream is no proof of a partition."""
    Path(service.handle["hold_file"]).touch()
    os.killpg(service.leader.identity.pid, signal.SIGKILL)
    kind, plan = planned(Case("partition", link, lambda: True))
    kind.inject(plan)
    assert not kind.witness(plan, 1).ok
    kind.undo(plan)


def test_kill_of_what_is_down(service: Target) -> None:
    kind, plan = planned(Case("kill", service, lambda: True))
    kind.inject(plan)
    with pytest.raises(FaultError, match="not running"):
        planned(Case("kill", service, lambda: True))
    kind.undo(plan)


def test_pause_of_what_is_paused(service: Target) -> None:
    kind, plan = planned(Case("pause", service, lambda: True))
    kind.inject(plan)
    with pytest.raises(FaultError, match="already paused"):
        planned(Case("pause", service, lambda: True))
    kind.undo(plan)


def test_the_harness_never_hits_itself(tmp_path: Path) -> None:
    us = read_state(os.getpid())
    assert us is not None
    pid_file = tmp_path / "us.pid"
    pid_file.write_text(f"{us.identity.pid} {us.identity.start_time}\n")
    handle = Handle(name="us", backend="process", pid_file=str(pid_file), hold_file=str(tmp_path / "hold"))
    for kind in ("kill", "pause"):
        with pytest.raises(FaultError, match="harness itself"):
            KINDS[kind].plan(handle, {})


def test_a_recycled_pid_is_never_signalled(service: Target) -> None:
    pid = service.leader.identity.pid
    assert not send(Identity(pid, 1), signal.SIGKILL)
    assert service.leader.identity.pid == pid


def test_flush_of_a_cache_that_is_down(cache: Target) -> None:
    kind, plan = planned(Case("cache-flush", cache, lambda: True))
    Path(cache.handle["hold_file"]).touch()
    os.killpg(cache.leader.identity.pid, signal.SIGKILL)
    wait_for(lambda: cache.leader is None)
    with pytest.raises(ConnectionError):
        kind.inject(plan)
    assert not kind.witness(plan, 0.5).ok
