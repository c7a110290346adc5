"""A real Docker engine of the tests' own, and containers in it: a small HTTP server from a static busybox.

The engine listens on a unix socket in a folder that also holds all its data; it makes no default bridge and no firewall
rules, and knows no registry. Its containers use the host's network on 127.0.0.1, or a bridge whose published port does.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
from chaos_targets import Case, Target, free_port, wait_for
from docker.types import EndpointConfig, IPAMConfig, IPAMPool

from chaos.addresses import unready
from chaos.docker_engine import LABEL, LABEL_VALUE
from chaos.processes import ProcessState, members, read_state, send

IMAGE = "feedstorm-test:1"
START_TIMEOUT_S = 30.0
LOOPS = 40_000
"""of a shell, for a request that takes CPU"""
WORK = f"""#!/bin/sh
i=0
while [ $i -lt {LOOPS} ]; do i=$((i+1)); done
echo "Content-Type: text/plain"
echo
echo done
"""
SERVE = "trap 'exit 0' TERM; /bin/busybox httpd -f -p {address} -h /www & wait"
BUSY = "while :; do :; done & "


def docker_missing() -> str:
    """Why no engine can be started here; empty when one can."""
    if os.geteuid() != 0:
        return "a Docker engine needs root"
    lacking = [name for name in ("dockerd", "containerd", "runc") if find(name) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)} (apt-get install docker.io)"
    busybox = find("busybox")
    if busybox is None or subprocess.run(["ldd", busybox], capture_output=True, check=False).returncode == 0:
        return "no static busybox to make an image of (apt-get install busybox-static)"
    if subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False).returncode != 0:
        return "this machine allows no namespaces"
    return ""


def find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@dataclass
class Engine:
    """One engine with its folder."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None
    guardian: subprocess.Popen[bytes] | None = None
    """ends the engine should the tests be killed: then its input closes"""
    client: docker.DockerClient = field(init=False)

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def start(self) -> None:
        """Also again after it died: containers and networks are as it kept them."""
        (self.folder / "daemon.json").write_text("{}")
        for left in ("docker.pid", "exec-root/containerd/containerd.pid"):  # a dead one's number may be in use
            (self.folder / left).unlink(missing_ok=True)
        options = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
        options += ["--storage-driver=vfs", "--shutdown-timeout=1", "--log-level=warn"]
        places = [f"--{name}={self.folder / name}" for name in ("data-root", "exec-root")]
        places += [f"--pidfile={self.folder / 'docker.pid'}", f"--config-file={self.folder / 'daemon.json'}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [find("dockerd") or "", "-H", self.url, *places, *options],
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
            )
        if self.guardian is None:
            self.guardian = subprocess.Popen(
                [sys.executable, __file__, str(self.folder)], stdin=subprocess.PIPE, start_new_session=True
            )
        wait_for(self.answers, START_TIMEOUT_S, "the Docker engine answers")
        self.ask()

    def ask(self) -> None:
        """Open a client of the engine that answers."""
        self.client = docker.DockerClient(base_url=self.url, timeout=30)

    def answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"dockerd ended: {(self.folder / 'log').read_text()[-2000:]}")
        return not unready(self.url)

    def die(self) -> None:
        """SIGKILL; containerd and the containers live on."""
        assert self.process is not None
        self.client.close()
        self.process.kill()
        self.process.wait(10)
        (self.folder / "docker.sock").unlink(missing_ok=True)

    def stop(self) -> None:
        """SIGTERM: ends its containers first."""
        assert self.process is not None
        self.client.close()
        self.process.terminate()
        self.process.wait(30)

    def clear(self) -> None:
        """No containers, no networks (a bridge would outlive the engine)."""
        for container in self.client.containers.list(all=True):
            with suppress(docker.errors.NotFound):
                container.remove(force=True)
        self.client.networks.prune()

    def end(self) -> None:
        """Everything of it: containers, shims, containerd, mounts, its folder."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.clear()
                self.stop()
        finally:
            for container in (self.folder / "exec-root/runtime-runc/moby").glob("*"):  # a frozen one takes no signal
                subprocess.run(["runc", "--root", container.parent, "resume", container.name], capture_output=True)
            for state in self.processes():
                send(state.identity, signal.SIGKILL)
            for process in (self.process, self.guardian):
                if process is not None:
                    process.wait(10)
                    if process.stdin is not None:
                        process.stdin.close()
            wait_for(lambda: not self.processes(), what="the engine's processes end")
            for mount in reversed(self.mounts()):
                subprocess.run(["umount", "--lazy", mount], check=True)
            shutil.rmtree(self.folder)

    def processes(self) -> list[ProcessState]:
        """Who names the engine's folder, and their descendants: engine, guardian, containerd, shims, containers."""
        mark, found = str(self.folder).encode(), {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                state = read_state(int(entry.name)) if mark in (entry / "cmdline").read_bytes() else None
                found.update({s.identity: s for s in (members(state.identity) if state else ())})
        return [state for state in found.values() if state.identity.pid != os.getpid()]

    def mounts(self) -> list[str]:
        """Mount points in its folder, outer ones first."""
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return [point for point in points if point.startswith(f"{self.folder}/")]

    def state(self, name: str) -> dict[str, Any]:
        """What `docker inspect` shows."""
        state: dict[str, Any] = self.client.api.inspect_container(name)
        return state


@contextmanager
def engine_up() -> Iterator[Engine]:
    """An engine with the test image."""
    if reason := docker_missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="feedstorm-docker-"))
    engine = Engine(folder)
    try:
        engine.start()
        engine.client.api.import_image_from_data(image_tar(), repository="feedstorm-test", tag="1")
        yield engine
    finally:
        engine.end()


def image_tar() -> bytes:
    """A file system with a shell and a web server."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(find("busybox") or "", arcname="bin/busybox")
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
        for name, text, mode in (("www/index.html", "up\n", 0o644), ("www/cgi-bin/work", WORK, 0o755)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text), mode
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


def serve(engine: Engine, name: str, *, labelled: bool = True, busy: bool = False, **options: Any) -> Target:
    """A container that answers on a port of 127.0.0.1, in the host's network unless `network` says otherwise."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    if "network" in options:
        address, options["ports"] = "0.0.0.0:80", {"80/tcp": ("127.0.0.1", port)}
    else:
        options["network_mode"] = "host"
    engine.client.containers.run(
        IMAGE,
        ["/bin/sh", "-c", (BUSY if busy else "") + SERVE.format(address=address)],
        name=name,
        labels={LABEL: LABEL_VALUE} if labelled else {},
        detach=True,
        **options,
    )
    ready = f"http://127.0.0.1:{port}/"
    wait_for(lambda: not unready(ready), what=f"container {name} is ready")
    handle = {"backend": "container", "container": name, "docker": engine.url, "ready": ready, "region": "here"}
    return Target(name, handle, port=port)


@contextmanager
def network(engine: Engine, name: str) -> Iterator[tuple[str, str]]:
    """A bridge of a free subnet: its name, and the first three numbers of its addresses."""
    for _ in range(50):
        prefix = f"10.{random.randint(100, 250)}.{random.randint(0, 255)}"
        pool = IPAMPool(subnet=f"{prefix}.0/24", gateway=f"{prefix}.1")
        try:
            made = engine.client.networks.create(name, driver="bridge", ipam=IPAMConfig(pool_configs=[pool]))
        except docker.errors.APIError as error:
            if "overlap" not in str(error):
                raise
            continue
        break
    else:
        raise AssertionError("no free subnet")
    yield name, prefix
    with suppress(docker.errors.APIError):
        made.remove()


def serve_in_network(engine: Engine, name: str, net: tuple[str, str], **settings: Any) -> Target:
    """A container in a bridge network, with a fixed address and aliases unless `settings` say otherwise."""
    if not settings:
        settings = {"aliases": ["web", "api"], "ipv4_address": f"{net[1]}.77"}
    endpoint = EndpointConfig("1.41", **settings)
    return serve(engine, name, network=net[0], networking_config={net[0]: endpoint})


def facts(engine: Engine, name: str) -> dict[str, Any]:
    """What faults change and undos give back, as the engine shows it."""
    state = engine.state(name)
    host = state["HostConfig"]
    asked = ("Aliases", "IPAMConfig", "Links", "DriverOpts")
    return {
        "running": state["State"]["Running"],
        "paused": state["State"]["Paused"],
        "cpu": (host["NanoCpus"], max(host["CpuQuota"], 0), host["CpuPeriod"]),
        "networks": {
            net: {k: sorted(v) if isinstance(v, list) else v for k, v in endpoint.items() if k in asked}
            for net, endpoint in state["NetworkSettings"]["Networks"].items()
        },
    }


def fetch_s(target: Target, path: str = "", timeout_s: float = 20.0) -> float:
    """Seconds that a request takes."""
    began = time.monotonic()
    with urllib.request.urlopen(f"{target.handle['ready']}{path}", timeout=timeout_s) as reply:
        reply.read()
    return time.monotonic() - began


def container_case(request: pytest.FixtureRequest, kind: str) -> Case:
    """A kind on a container made for it."""
    engine: Engine = request.getfixturevalue("engine")
    name = f"{kind}-{random.randrange(16**8):08x}"
    params: dict[str, Any] = {}
    if kind == "container-disconnect":
        target = serve_in_network(engine, name, request.getfixturevalue("bridge"))
    elif kind == "container-cpu-limit":
        target, params = serve(engine, name, busy=True), {"cpus": 0.1}
    else:
        target = serve(engine, name)
    if kind in ("container-stop", "container-restart"):
        params = {"grace": "3s"}
    request.addfinalizer(lambda: engine.client.containers.get(name).remove(force=True))
    before, first = facts(engine, name), engine.state(name)["State"]["StartedAt"]
    active: dict[str, Callable[[], bool]] = {
        "container-kill": lambda: bool(unready(target.handle["ready"])),
        "container-stop": lambda: bool(unready(target.handle["ready"])),
        "container-pause": lambda: engine.state(name)["State"]["Paused"],
        "container-restart": lambda: engine.state(name)["State"]["StartedAt"] != first,
        "container-disconnect": lambda: engine.state(name)["NetworkSettings"]["Networks"] == {},
        "container-cpu-limit": lambda: facts(engine, name)["cpu"] == (0, 10_000, 0),
    }

    def as_before() -> None:
        assert facts(engine, name) == before
        assert not unready(target.handle["ready"])

    return Case(kind, target, active[kind], params, kind != "container-restart", as_before)


if __name__ == "__main__":  # the guardian
    sys.stdin.read()
    orphan = Engine(Path(sys.argv[1]))
    if not unready(orphan.url):
        orphan.ask()
        orphan.clear()
    orphan.end()
