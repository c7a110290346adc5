"""Fault kinds on links, each as a case on real proxies: one link of the stack's form, and a network of four regions."""

from __future__ import annotations

from typing import Any

import pytest
from chaos_targets import WAN_MS, Case, Target, free_port, make_wan, talk

from chaos.toxiproxy import ProxyState

REGIONS = ("a", "b", "c", "d")
PAIRS = [(one, other) for one in REGIONS for other in REGIONS if one != other]
WAN = {name: {"latency": WAN_MS, "jitter": 0} for name in ("wan_down", "wan_up")}
ONE_WAY = {"direction": "one-way"}
LINK_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "latency": ("latency", {"latency": "300ms"}),
    "latency-one-way": ("latency", {"latency": "300ms", **ONE_WAY}),
    "bandwidth": ("bandwidth", {"rate": "20kB/s"}),
    "bandwidth-one-way": ("bandwidth", {"rate": "20kB/s", **ONE_WAY}),
    "slicer": ("slicer", {"size": "100B", "variation": "20B", "delay": "5ms"}),
    "slicer-one-way": ("slicer", {"size": "100B", "delay": "5ms", **ONE_WAY}),
    "reset": ("reset", {"after": "50ms"}),
    "reset-one-way": ("reset", ONE_WAY),
    "reset-some": ("reset", {"toxicity": 0.5, **ONE_WAY}),
    "slow-close": ("slow-close", {"delay": "250ms"}),
    "slow-close-one-way": ("slow-close", {"delay": "250ms", **ONE_WAY}),
    "limit-data": ("limit-data", {"bytes": "100B"}),
    "limit-data-one-way": ("limit-data", {"bytes": "5B", **ONE_WAY}),
    "down": ("down", {}),
    "partition": ("partition", {}),
    "partition-one-way": ("partition", ONE_WAY),
}
"""name of the case -> kind, parameters"""
NETWORK_CASES: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "isolate": ("isolate", {"region": "b"}, {f"{x}--{y}" for x, y in PAIRS if "b" in (x, y)}),
    "isolate-pair": ("isolate", {"region": "a", "from": "c"}, {"a--c", "c--a"}),
    "ring": ("ring", {"order": "a, c, b, d"}, {"a--b", "b--a", "c--d", "d--c"}),
}
"""name of the case -> kind, parameters, the links that are cut"""


def link_case(request: pytest.FixtureRequest, name: str) -> Case:
    """A kind on one link, or on the network."""
    if name in NETWORK_CASES:
        return _network_case(request.getfixturevalue("mesh"), name)
    link: Target = request.getfixturevalue("link")
    kind, params = LINK_CASES[name]
    streams = {"downstream"} if params.get("direction") == "one-way" else {"downstream", "upstream"}

    def active() -> bool:
        state = link.server.proxy("a--b")
        if kind == "down":
            return not state.enabled
        if kind == "latency":
            return {t.stream for t in state.toxics if t.attributes["latency"] == 300} == streams
        return {t.stream for t in state.toxics if t.name.startswith(f"feedstorm_{kind}_")} == streams

    return Case(kind, link, active, params)


def make_mesh(link: Target) -> Target:
    """Every region linked with every other, through the toxiproxy of `link`, as one handle."""
    for one, other in PAIRS:
        if (one, other) != ("a", "b"):
            make_wan(link.server, free_port(), link.upstream_port, f"{one}--{other}")
    probe = link.handle["probe"]
    links = [{"proxy": f"{one}--{other}", "regions": [one, other], "probe": probe} for one, other in PAIRS]
    handle = {"backend": "network", "api": link.handle["api"], "links": links}
    return Target("network", handle, None, link.port, link.toxiproxy, link.upstream_port)


def proxies(mesh: Target) -> dict[str, ProxyState]:
    """All links of the network as they are."""
    return {f"{one}--{other}": mesh.server.proxy(f"{one}--{other}") for one, other in PAIRS}


def cut(mesh: Target) -> set[str]:
    """Links with a black hole each way."""
    holes = {name: [t.stream for t in state.toxics if t.type == "timeout"] for name, state in proxies(mesh).items()}
    return {name for name, streams in holes.items() if sorted(streams) == ["downstream", "upstream"]}


def _network_case(mesh: Target, name: str) -> Case:
    kind, params, links = NETWORK_CASES[name]
    return Case(kind, mesh, lambda: cut(mesh) == links, params, as_before=lambda: assert_mesh_as_before(mesh))


def assert_mesh_as_before(mesh: Target) -> None:
    """Every link has the delay it was made with, and nothing else; all serve."""
    for state in proxies(mesh).values():
        assert {t.name: t.attributes for t in state.toxics} == WAN
        assert talk(int(state.listen.rpartition(":")[2])) == b"got hi\n"
