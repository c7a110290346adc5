"""Faults on containers of a real Docker engine: only labelled ones, given back whatever happened meanwhile."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos_targets import Target, free_port, wait_for
from docker_targets import IMAGE, Engine, container_case, engine_up, facts, fetch_s, network, serve, serve_in_network

from chaos import containers
from chaos.addresses import unready
from chaos.docker_engine import DockerEngine
from chaos.faults import KINDS
from chaos.guard import validate
from chaos.handles import parse_handle
from chaos.kind import FaultError, parse_parameters
from chaos.residue import observe, residue
from harness.core.scenario import FaultSpec

pytestmark = [pytest.mark.slow, pytest.mark.docker]


def planned(kind_name: str, target: Target, **raw: Any) -> tuple[Any, Any]:
    kind = KINDS[kind_name]
    params, problems = parse_parameters(kind, raw)
    assert not problems
    return kind, kind.plan(parse_handle(target.name, target.handle), params)


@pytest.fixture
def made(engine: Engine) -> Iterator[Callable[..., Target]]:
    """Makes containers as `serve` does."""
    names: list[str] = []

    def make(name: str, **options: Any) -> Target:
        names.append(name)
        return serve(engine, name, **options)

    yield make
    for name in names:
        for container in engine.client.containers.list(all=True, filters={"name": name}):
            container.remove(force=True)


@pytest.fixture
def web(made: Callable[..., Target]) -> Target:
    return made("web")


def test_a_container_without_the_label_is_refused(engine: Engine, made: Callable[..., Target]) -> None:
    target = made("private", labelled=False)
    spec = FaultSpec(kind="container-kill", handle="private", hold_s=1)
    (problem,) = validate({"f": spec}, target.handles)
    assert problem.startswith(
        "f.handle: private: container private does not carry the label feedstorm.chaos=allowed: faults touch only"
    )
    for name in ("container-kill", "container-pause", "container-stop", "container-restart", "container-disconnect"):
        with pytest.raises(FaultError, match=r"label feedstorm\.chaos=allowed"):
            planned(name, target)
    with pytest.raises(FaultError, match=r"label feedstorm\.chaos=allowed"):
        planned("container-cpu-limit", target, cpus=0.1)
    assert facts(engine, "private")["running"]


def test_a_labelled_container_is_accepted(web: Target) -> None:
    assert validate({"f": FaultSpec(kind="container-kill", handle="web", hold_s=1)}, web.handles) == []


def test_a_container_that_is_not_there_is_a_problem(engine: Engine) -> None:
    handles = {
        "none": {"backend": "container", "container": "none", "docker": engine.url, "ready": "tcp://127.0.0.1:1"}
    }
    (problem,) = validate({"f": FaultSpec(kind="container-pause", handle="none", hold_s=1)}, handles)
    assert "No such container: none" in problem


def test_the_restart_policy_does_not_bring_a_killed_container_back(engine: Engine, made: Callable[..., Target]) -> None:
    target = made("kept", restart_policy={"Name": "always"}, ipc_mode="shareable")  # mounts under its id on the host
    kind, plan = planned("container-kill", target)
    kind.inject(plan)
    witness = kind.witness(plan, 2)
    assert witness.ok, witness.evidence
    assert "refuses (Connection refused)" in witness.evidence
    assert not facts(engine, "kept")["running"]
    kind.undo(plan)
    assert fetch_s(target) < 5
    assert engine.state("kept")["HostConfig"]["RestartPolicy"]["Name"] == "always"


def test_a_container_that_is_down_cannot_be_hit(web: Target) -> None:
    kind, plan = planned("container-kill", web)
    kind.inject(plan)
    for name in ("container-kill", "container-pause", "container-stop", "container-restart"):
        with pytest.raises(FaultError, match="web is not running"):
            planned(name, web)
    kind.undo(plan)


def test_the_harness_never_hits_the_container_it_runs_in(engine: Engine, web: Target) -> None:
    identity = engine.state("web")["Id"]
    cgroup = next(path for path in Path("/sys/fs/cgroup").glob(f"**/*{identity}*/cgroup.procs"))
    plan = (
        "from chaos.faults import KINDS; from chaos.handles import parse_handle; "
        f"KINDS['container-kill'].plan(parse_handle('web', {web.handle!r}), {{}})"
    )
    inside = subprocess.run(
        ["/bin/sh", "-c", f'echo $$ > {cgroup} && exec {sys.executable} -c "$0"', plan],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert inside.stderr.rstrip().endswith("web contains the harness itself")


def test_a_container_that_is_removed_when_it_ends_is_left_alone(made: Callable[..., Target]) -> None:
    target = made("fleeting", auto_remove=True)
    for name in ("container-kill", "container-stop", "container-restart"):
        with pytest.raises(FaultError, match="could not be started again"):
            planned(name, target)


@pytest.mark.parametrize("name", ["container-kill", "container-stop", "container-restart"])
def test_a_paused_container_can_be_ended(engine: Engine, web: Target, name: str) -> None:
    """It is unpaused first; then the undo of the pause has nothing to do."""
    pause, paused = planned("container-pause", web)
    pause.inject(paused)
    params = {} if name == "container-kill" else {"grace": "3s"}
    kind, plan = planned(name, web, **params)
    kind.inject(plan)
    kind.undo(plan)
    assert "anew" in pause.undo(paused)
    assert not unready(web.handle["ready"])
    assert not facts(engine, "web")["paused"]


def test_a_stopped_container_had_the_time_to_end_by_itself(engine: Engine, web: Target) -> None:
    kind, plan = planned("container-stop", web, grace="9s")
    kind.inject(plan)
    assert engine.state("web")["State"]["ExitCode"] == 0  # its own exit, not 137 of SIGKILL
    kind.undo(plan)


@pytest.mark.parametrize("kind", ["container-kill", "container-pause", "container-disconnect", "container-cpu-limit"])
def test_a_container_removed_meanwhile_took_the_fault_with_it(
    request: pytest.FixtureRequest, engine: Engine, kind: str
) -> None:
    """One made anew under its name is another: undo leaves it as its owner wants it."""
    case = container_case(request, kind)
    fault, plan = planned(kind, case.target, **case.params)
    fault.inject(plan)
    name = case.target.name
    engine.client.containers.get(name).remove(force=True)
    assert "is gone: nothing of this fault is left" in fault.undo(plan)
    made = engine.client.containers.run(
        IMAGE, ["/bin/sh", "-c", "sleep 1000"], name=name, detach=True, network_mode="none", nano_cpus=50_000_000
    )
    made.pause()
    before = facts(engine, name)
    assert not fault.witness(plan, 0.3).ok
    assert "is gone" in fault.undo(plan)
    assert facts(engine, name) == before
    made.unpause()


def test_a_container_that_was_started_meanwhile_is_served_by_its_starter(engine: Engine, web: Target) -> None:
    kind, plan = planned("container-kill", web)
    kind.inject(plan)
    engine.client.containers.get("web").start()
    started = engine.state("web")["State"]["StartedAt"]
    assert "serves at" in kind.undo(plan)
    assert engine.state("web")["State"]["StartedAt"] == started


def test_a_pause_of_a_later_life_is_left_alone(engine: Engine, web: Target) -> None:
    kind, plan = planned("container-pause", web)
    kind.inject(plan)
    container = engine.client.containers.get("web")
    container.unpause()
    container.restart(timeout=1)
    container.pause()
    assert "started anew" in kind.undo(plan)
    assert facts(engine, "web")["paused"]
    container.unpause()


def test_a_container_that_does_not_come_back_is_residue(web: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "ENGINE_GRACE_S", 1.0)
    kind, plan = planned("container-kill", web)
    kind.inject(plan)
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", web.port))
        thief.listen()
        monkeypatch.setattr(containers, "READY_TIMEOUT_S", 0.5)
        with pytest.raises(FaultError, match=r"ended again|not ready within"):
            kind.undo(plan)
    monkeypatch.undo()
    kind.undo(plan)
    assert fetch_s(web) < 5


def test_a_service_that_did_not_answer_before_gives_no_witness(web: Target) -> None:
    """Silence of the deaf is no proof of a pause."""
    web.handle["ready"] = f"tcp://127.0.0.1:{free_port()}"
    kind, plan = planned("container-pause", web)
    kind.inject(plan)
    assert "its silence proves nothing" in kind.witness(plan, 2).evidence
    kind.undo(plan)


def test_silence_of_a_pause_takes_time_to_prove(web: Target) -> None:
    kind, plan = planned("container-pause", web)
    kind.inject(plan)
    assert "too short to prove silence" in kind.witness(plan, 0.5).evidence
    witness = kind.witness(plan, 3)
    assert witness.ok
    assert "is silent for" in witness.evidence
    kind.undo(plan)


def test_aliases_addresses_links_and_options_are_given_back(
    request: pytest.FixtureRequest, engine: Engine, web: Target, bridge: tuple[str, str]
) -> None:
    other = serve_in_network(engine, "other", bridge)
    request.addfinalizer(lambda: engine.client.containers.get("other").remove(force=True))
    target = serve_in_network(
        engine,
        "joined",
        bridge,
        aliases=["web", "feed"],
        ipv4_address=f"{bridge[1]}.99",
        links={other.name: "db"},
        driver_opt={"com.example.tier": "front"},
    )
    request.addfinalizer(lambda: engine.client.containers.get("joined").remove(force=True))
    before = facts(engine, "joined")
    endpoint = before["networks"][bridge[0]]
    assert {"web", "feed"} <= set(endpoint["Aliases"])
    assert endpoint["IPAMConfig"]["IPv4Address"] == f"{bridge[1]}.99"
    assert endpoint["Links"] == ["other:db"]
    assert endpoint["DriverOpts"] == {"com.example.tier": "front"}
    kind, plan = planned("container-disconnect", target)
    kind.inject(plan)
    witness = kind.witness(plan, 3)
    assert witness.ok, witness.evidence
    assert f"is out of network {bridge[0]}" in witness.evidence
    kind.undo(plan)
    assert facts(engine, "joined") == before
    assert engine.state("joined")["NetworkSettings"]["Networks"][bridge[0]]["IPAddress"] == f"{bridge[1]}.99"
    wait_for(lambda: not unready(target.handle["ready"]), what="the published port")
    assert resolves(engine, "other", "feed", f"{bridge[1]}.99")


def resolves(engine: Engine, inside: str, name: str, address: str) -> bool:
    """Whether a container of the network finds another by its alias."""
    fetched = engine.client.containers.get(inside).exec_run(["/bin/busybox", "nslookup", name])
    return address in fetched.output.decode()


def test_an_address_that_the_engine_chose_is_not_made_a_fixed_one(
    request: pytest.FixtureRequest, engine: Engine, bridge: tuple[str, str]
) -> None:
    target = serve_in_network(engine, "chosen", bridge, aliases=["web"])
    request.addfinalizer(lambda: engine.client.containers.get("chosen").remove(force=True))
    kind, plan = planned("container-disconnect", target)
    kind.inject(plan)
    kind.undo(plan)
    assert not facts(engine, "chosen")["networks"][bridge[0]]["IPAMConfig"]


def test_who_was_connected_otherwise_meanwhile_gets_its_aliases_back(
    request: pytest.FixtureRequest, engine: Engine, bridge: tuple[str, str]
) -> None:
    case = container_case(request, "container-disconnect")
    kind, plan = planned("container-disconnect", case.target)
    kind.inject(plan)
    engine.client.networks.get(bridge[0]).connect(case.target.name)
    kind.undo(plan)
    assert case.as_before is not None
    case.as_before()


def test_a_network_that_is_gone_cannot_be_joined(request: pytest.FixtureRequest, engine: Engine) -> None:
    with network(engine, "brief") as brief:
        target = serve_in_network(engine, "lonely", brief)
        request.addfinalizer(lambda: engine.client.containers.get("lonely").remove(force=True))
        kind, plan = planned("container-disconnect", target)
        kind.inject(plan)
        engine.client.networks.get("brief").remove()
        assert "network brief is gone" in kind.undo(plan)


def test_a_container_that_went_down_meanwhile_is_in_its_network_when_started(
    request: pytest.FixtureRequest, engine: Engine
) -> None:
    case = container_case(request, "container-disconnect")
    kind, plan = planned("container-disconnect", case.target)
    kind.inject(plan)
    container = engine.client.containers.get(case.target.name)
    container.kill()
    kind.undo(plan)
    container.start()
    assert case.as_before is not None
    wait_for(lambda: not unready(case.target.handle["ready"]), what="it serves")
    case.as_before()


def test_the_network_to_leave_must_be_clear(
    request: pytest.FixtureRequest, engine: Engine, web: Target, bridge: tuple[str, str]
) -> None:
    with pytest.raises(FaultError, match="host and none cannot be left"):
        planned("container-disconnect", web)
    case = container_case(request, "container-disconnect")
    with network(engine, "second") as second:
        engine.client.networks.get("second").connect(case.target.name)
        with pytest.raises(FaultError, match="in several networks: name one"):
            planned("container-disconnect", case.target)
        with pytest.raises(FaultError, match=rf"not in network 'nowhere' \(its networks: {bridge[0]}, second\)"):
            planned("container-disconnect", case.target, network="nowhere")
        _, plan = planned("container-disconnect", case.target, network="second")
        assert plan.endpoint.network == second[0]
        engine.client.networks.get("second").disconnect(case.target.name)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, (0, 0, 0)),
        ({"nano_cpus": 500_000_000}, (500_000_000, 0, 0)),
        ({"cpu_quota": 30_000}, (0, 30_000, 0)),
        ({"cpu_quota": 25_000, "cpu_period": 50_000}, (0, 25_000, 50_000)),
    ],
)
def test_the_cpu_limit_is_given_back(
    engine: Engine, made: Callable[..., Target], options: dict[str, int], limit: tuple[int, int, int]
) -> None:
    target = made("limited", **options)
    assert facts(engine, "limited")["cpu"] == limit
    kind, plan = planned("container-cpu-limit", target, cpus=0.2)
    kind.inject(plan)
    assert facts(engine, "limited")["cpu"] != limit
    kind.undo(plan)
    assert facts(engine, "limited")["cpu"] == limit
    engine.client.containers.get("limited").restart(timeout=1)  # what it is started with is as before, too
    assert facts(engine, "limited")["cpu"] == limit


def test_work_takes_longer_under_a_cpu_limit(engine: Engine, web: Target) -> None:
    """As much longer as the CPU time it needs says, whatever else the machine does."""
    usage = DockerEngine(engine.url)
    before = usage.cpu_usage("web").used_s
    without_s = min(fetch_s(web, "cgi-bin/work") for _ in range(3))
    needed_s = (usage.cpu_usage("web").used_s - before) / 3
    kind, plan = planned("container-cpu-limit", web, cpus=0.03)
    kind.inject(plan)
    limited_s = fetch_s(web, "cgi-bin/work")
    kind.undo(plan)
    again_s = min(fetch_s(web, "cgi-bin/work") for _ in range(3))
    seen = f"{needed_s=} {without_s=} {limited_s=} {again_s=}"
    assert limited_s > 0.5 * needed_s / 0.03, seen
    assert limited_s > 2 * max(without_s, again_s), seen


def test_an_idle_container_gives_no_witness_of_a_cpu_limit(web: Target) -> None:
    kind, plan = planned("container-cpu-limit", web, cpus=0.5)
    kind.inject(plan)
    witness = kind.witness(plan, 0.5)
    assert not witness.ok
    assert "had no need for more" in witness.evidence
    kind.undo(plan)


def test_a_cpu_limit_never_gives_more(made: Callable[..., Target]) -> None:
    target = made("small", nano_cpus=100_000_000)
    with pytest.raises(FaultError, match=r"already limited to 0\.1 CPUs"):
        planned("container-cpu-limit", target, cpus=0.5)


def test_the_audit_tells_how_containers_were_left(
    request: pytest.FixtureRequest, engine: Engine, bridge: tuple[str, str], tmp_path: Path
) -> None:
    name = "left"
    target = serve_in_network(engine, name, bridge)
    request.addfinalizer(lambda: engine.client.containers.get(name).remove(force=True))
    before = observe(target.handles)
    container = engine.client.containers.get(name)
    container.update(cpu_quota=50_000)
    engine.client.networks.get(bridge[0]).disconnect(name)
    container.pause()
    cpus, networks, paused = sorted(residue(before, target.handles, settle_s=0.0))
    assert cpus == "left: limit of CPUs: 0.5, was none"
    assert networks.startswith("left: networks: {}, was {")
    assert paused == "left: paused: yes, was no"
    container.unpause()


def test_the_engine_dies_under_the_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """The containers live on as the faults left them: no undo says otherwise, and all work once it is back."""
    monkeypatch.setattr(containers, "ENGINE_GRACE_S", 0.2)
    with engine_up() as engine, network(engine, "cut") as cut:
        faults = [
            planned("container-pause", serve(engine, "paused")),
            planned("container-kill", serve(engine, "killed")),
            planned("container-stop", serve(engine, "stopped"), grace="3s"),
            planned("container-cpu-limit", serve(engine, "limited", nano_cpus=500_000_000), cpus=0.1),
            planned("container-disconnect", serve_in_network(engine, "joined", cut)),
        ]
        before = {plan.target.name: facts(engine, plan.target.name) for _, plan in faults}
        for kind, plan in faults:
            kind.inject(plan)
        engine.die()
        for kind, plan in faults:
            with pytest.raises(FaultError, match=r"no Docker engine answers .* until its engine is back"):
                kind.undo(plan)
            assert not kind.witness(plan, 0.3).ok
        engine.start()
        for kind, plan in faults:
            kind.undo(plan)
            name = plan.target.name
            running = kind.name in ("container-kill", "container-stop")  # the others ended with the engine, as it is
            assert facts(engine, name) == {**before[name], "running": running}


def test_a_paused_container_that_ends_with_its_engine_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "ENGINE_GRACE_S", 0.2)
    with engine_up() as engine:
        kind, plan = planned("container-pause", serve(engine, "paused"))
        kind.inject(plan)
        engine.stop()
        assert "ended with its engine" in kind.undo(plan)
