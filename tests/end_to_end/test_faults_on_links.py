"""Every fault on links, on links of a real stack: between regions, and within one where a proxy was asked for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from real_servers import wait_until
from stack_process import StackProcess

from chaos.faults import KINDS
from chaos.handles import parse_handle
from chaos.kind import parse_parameters
from chaos.toxiproxy import ProxyState, ToxiproxyServer

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(240)]
WAN_LINK = "link.us-east.ap-tokyo"
QUEUE_LINK, API_LINK = "us-east.api-to-redis-queue", "us-east.edge-to-api"
INNER = (QUEUE_LINK, "us-east.fanout-to-memcached", API_LINK)
ONE_WAY = {"direction": "one-way"}
FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("latency", {"latency": "300ms"}),
    ("bandwidth", {"rate": "20kB/s"}),
    ("slicer", {"size": "100B", "delay": "5ms"}),
    ("reset", {}),
    ("slow-close", {"delay": "250ms"}),
    ("limit-data", {"bytes": "200B"}),
    ("down", {}),
    ("partition", {}),
)
SCENARIO = """
name = "inner-link"
about = "The apis of one region cannot reach their cache."
warmup = "1s"
[population]
users = 200
mean_follows = 10
listeners = 20
history = 20
[load]
posts = "5/s"
reads = "20/s"
[[phase]]
name = "baseline"
duration = "3s"
[[phase]]
name = "cache-unreachable"
duration = "5s"
faults = [{ kind = "partition", handle = "us-east.api-to-memcached", at = "1s", hold = "3s" }]
[[phase]]
name = "recovered"
duration = "4s"
[expect]
"invariants" = ["durability"]
"""
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    folder = tmp_path_factory.mktemp("links") / "stack"
    asked = [word for link in INNER for word in ("--proxy", link)]
    only = ("--only", "api,graph,fanout,replicator,edge", "--link-latency-ms", "40", "--users", "50")
    started = StackProcess(folder, *only, *asked)
    yield started.await_ready()
    started.end()
    for stream in (started.process.stdin, started.process.stdout, started.process.stderr):
        assert stream is not None
        stream.close()


def planned(stack: StackProcess, handle: str, name: str, params: dict[str, Any]) -> tuple[Any, Any]:
    parsed, problems = parse_parameters(KINDS[name], params)
    assert not problems
    return KINDS[name], KINDS[name].plan(parse_handle(handle, stack.endpoints["handles"][handle]), parsed)


@pytest.mark.parametrize("direction", ["both", "one-way"])
@pytest.mark.parametrize("handle", [WAN_LINK, *INNER])
def test_every_fault_is_seen_on_the_link(stack: StackProcess, handle: str, direction: str) -> None:
    """Whatever the part behind the link speaks: replication, Redis, memcached, HTTP."""
    table = stack.endpoints["handles"][handle]
    before = ToxiproxyServer(table["api"]).proxy(table["proxy"])
    for name, params in FAULTS:
        if "direction" not in KINDS[name].parameters and direction == "one-way":
            continue
        chosen = {"direction": direction} if "direction" in KINDS[name].parameters else {}
        kind, plan = planned(stack, handle, name, {**params, **chosen})
        assert not kind.witness(plan, 5).ok, f"{name} is seen before it is there"
        kind.inject(plan)
        try:
            witness = kind.witness(plan, 5)
        finally:
            kind.undo(plan)
        assert witness.ok, f"{name}: {witness.evidence}"
        assert ToxiproxyServer(table["api"]).proxy(table["proxy"]) == before


def test_the_network_of_the_stack_is_cut_between_regions(stack: StackProcess) -> None:
    kind, plan = planned(stack, "network", "isolate", {"region": "us-east"})
    kind.inject(plan)
    try:
        witness = kind.witness(plan, 5)
    finally:
        kind.undo(plan)
    assert witness.ok, witness.evidence
    assert witness.evidence.startswith("2 links are cut")


def test_toxiproxy_may_restart_under_the_faults(stack: StackProcess) -> None:
    """Its supervisor fills it again; whatever the undo finds, the links end up as they were."""
    tables = {name: h for name, h in stack.endpoints["handles"].items() if h["backend"] == "toxiproxy"}

    def links() -> dict[str, ProxyState]:
        return {name: ToxiproxyServer(table["api"]).proxy(table["proxy"]) for name, table in tables.items()}

    before = links()
    faults = [*FAULTS, ("isolate", {"region": "us-east"})]
    handles = ["network" if name == "isolate" else WAN_LINK if name == "latency" else QUEUE_LINK for name, _ in faults]
    active = [planned(stack, handle, *fault) for handle, fault in zip(handles, faults, strict=True)]
    for kind, plan in active:
        kind.inject(plan)
    stack.restart("toxiproxy")
    for kind, plan in reversed(active):
        assert kind.undo(plan)
    wait_until(lambda: links() == before, "links as before")


def test_only_the_caller_of_the_link_is_hit(stack: StackProcess) -> None:
    """The api loses its queue; the queue itself, and who else uses it, do not."""
    url = stack.endpoints["regions"]["us-east"]["api"]
    with httpx.Client(base_url=url, timeout=20, trust_env=False) as http:
        token = http.post("/v1/users", json={"identity": "7"}).raise_for_status().json()["token"]
        http.headers["Authorization"] = f"Bearer {token}"

        def post(key: str) -> int:
            return http.post("/v1/posts", json={"text": "hi"}, headers={"Idempotency-Key": key}).status_code

        assert post("before") == 201
        kind, plan = planned(stack, QUEUE_LINK, "down", {})
        kind.inject(plan)
        try:
            assert post("meanwhile") == 503
        finally:
            kind.undo(plan)
        deadline = time.monotonic() + 10
        while post("after") != 201:
            assert time.monotonic() < deadline


def test_a_run_puts_a_proxy_on_the_link_that_its_fault_names(tmp_path: Path) -> None:
    scenario, out = tmp_path / "inner-link.toml", tmp_path / "run"
    scenario.write_text(SCENARIO)
    words = [sys.executable, "-m", "harness.cli", "run", str(scenario), "--out", str(out)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr.decode()
    (row,) = [json.loads(line) for line in (out / "faults.jsonl").read_text().splitlines()]
    assert row["handle"] == "us-east.api-to-memcached"
    assert row["regions"] == ["us-east"]
    assert row["witness"]["ok"], row["witness"]
    assert row["undo"]["ok"]
    handles = json.loads((out / "target.json").read_bytes())["handles"]
    assert [name for name in handles if "-to-" in name] == ["us-east.api-to-memcached"]
