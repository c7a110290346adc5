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


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Target]:
    port = free_port()
    target = supervised(tmp_path, "service", port, [sys.executable, str(HERE / "stub_service.py"), str(port)])
    wait_for(lambda: len(target.states()) == 2, what="the service has forked its worker")
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


@pytest.fixture(params=KIND_NAMES)
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(request, request.param)
