"""Fixtures of the chaos tests: a supervised service, a supervised memcached, a toxiproxy link."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_targets import (
    HERE,
    KIND_NAMES,
    Case,
    Target,
    end,
    free_port,
    make_case,
    make_wan,
    start_toxiproxy,
    supervised,
    wait_for,
)
from docker_targets import Engine, engine_up, network
from host_targets import start_web
from link_targets import make_mesh


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Target]:
    port = free_port()
    target = supervised(tmp_path, "service", port, [sys.executable, str(HERE / "stub_service.py"), str(port)])
    wait_for(lambda: len(target.states()) == 2, what="the service has forked its worker")
    yield target
    end(target.supervisor)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Target]:
    target = start_web(tmp_path)
    yield target
    end(target.supervisor)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Target]:
    binary = shutil.which("memcached")
    if binary is None:
        pytest.skip("memcached is not installed")
    port = free_port()
    target = supervised(
        tmp_path, "cache", port, [binary, "-u", "nobody", "-l", "127.0.0.1", "-p", str(port), "-m", "16"]
    )
    target.handle["memcached"] = [f"127.0.0.1:{port}"]
    yield target
    end(target.supervisor)


@pytest.fixture
def link(service: Target) -> Iterator[Target]:
    api_port, listen_port = free_port(), free_port()
    process = start_toxiproxy(api_port)
    handle = {
        "backend": "toxiproxy",
        "api": f"http://127.0.0.1:{api_port}",
        "proxy": "a--b",
        "probe": b"hello\n".hex(),
        "regions": ["a", "b"],
    }
    target = Target("link.a.b", handle, None, listen_port, process, service.port)
    make_wan(target.server, listen_port, service.port)
    yield target
    end(target.toxiproxy)


@pytest.fixture
def mesh(link: Target) -> Target:
    return make_mesh(link)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """One Docker engine for all tests that need one."""
    with engine_up() as engine:
        yield engine


@pytest.fixture(scope="session")
def bridge(engine: Engine) -> Iterator[tuple[str, str]]:
    """A network to leave: its name, and the first three numbers of its addresses."""
    with network(engine, "bridge-of-tests") as made:
        yield made


SAMPLED = {"kill", "pause", "cache-flush", "latency", "partition", "isolate", "container-pause", "queue-pause"}
"""kinds, some of each backend, whose whole life `make test` looks at; `make nightly` does so for all"""


@pytest.fixture(params=[pytest.param(n, marks=() if n in SAMPLED else pytest.mark.nightly) for n in KIND_NAMES])
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(request, request.param)
