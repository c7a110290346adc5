"""The residue audit: how handles were before the first fault, and what of that is not so after the last undo.

Looks at what faults change and at nothing a target changes by itself: stopped processes, hold files, limits of open
files, feature flags, toxics and disabled proxies, paused containers with their networks and limits; and on the machine,
helper processes that faults started. A process that is gone, or a toxiproxy or a Docker engine that does not answer, is
no residue: what a dead process had died with it, and an undo that could not reach its target has said so.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from chaos.clocks import read_offset_s
from chaos.docker_engine import DockerEngine
from chaos.flags import Flags, flag_word
from chaos.handles import Handle, parse_handle
from chaos.kind import FaultError
from chaos.marks import marked
from chaos.processes import STOPPED, members, read_pid_file
from chaos.toxiproxy import ToxiproxyServer

SETTLE_S = 5.0
SAME_CLOCK_S = 3.0
POLL_S = 0.1
Observation = dict[str, dict[str, str]]
"""handle (or "this machine") -> what can be changed by a fault -> how it is"""
_MACHINE = "this machine"


def observe(handles: Mapping[str, Mapping[str, Any]], marks: Collection[str] = ()) -> Observation:
    """How all handles are now, and which processes with these marks live."""
    found: Observation = {_MACHINE: {"processes that faults started": _helpers(marks)}}
    for name, table in handles.items():
        try:
            handle = parse_handle(name, table)
            found[name] = OBSERVERS[handle.backend](handle)
        except (ValueError, FaultError, OSError):
            continue
    return found


def residue(
    before: Observation,
    handles: Mapping[str, Mapping[str, Any]],
    marks: Collection[str] = (),
    settle_s: float = SETTLE_S,
) -> list[str]:
    """A sentence for each difference that is still there after `settle_s`; nothing is waited for when there is none."""
    deadline = time.monotonic() + settle_s
    while left := _differences(before, observe(handles, marks)):
        if time.monotonic() >= deadline:
            return left
        time.sleep(POLL_S)
    return []


def _differences(before: Observation, after: Observation) -> list[str]:
    return [
        f"{name}: {fact}: {now or 'none'}, was {was or 'none'}"
        for name in sorted(before.keys() & after.keys())
        for fact, was in sorted(before[name].items())
        if (now := after[name].get(fact, was)) != was
    ]


def _process(handle: Handle) -> dict[str, str]:
    files = {"hold file": handle.hold_file, "wrapper file": handle.wrapper_file}
    facts = {fact: path if path and Path(path).exists() else "" for fact, path in files.items()}
    facts.update(_clock(handle))
    facts.update(_flags(handle))
    leader = read_pid_file(handle.pid_file)
    if leader is None:
        return facts
    group = members(leader.identity)
    stopped = [str(state.identity.pid) for state in group if state.state in STOPPED]
    soft, hard = resource.prlimit(leader.identity.pid, resource.RLIMIT_NOFILE)
    return {**facts, "stopped processes": " ".join(stopped), "limit of open files": f"{soft}/{hard}"}


def _clock(handle: Handle) -> dict[str, str]:
    """Whether its clock is ours; nothing when nobody tells."""
    try:
        offset_s = read_offset_s(handle.clock) if handle.clock else 0.0
    except (FaultError, OSError):
        return {}
    return {"clock": f"{offset_s:+.0f} s off" if abs(offset_s) > SAME_CLOCK_S else ""}


def _flags(handle: Handle) -> dict[str, str]:
    """What feature flags are set to; nothing when nobody tells."""
    if not handle.flags or not handle.operator_token_file:
        return {}
    try:
        told = Flags(handle.flags, handle.operator_token_file).read()
    except (FaultError, OSError):
        return {}
    return {"flags": " ".join(f"{name}={flag_word(told[name].value)}" for name in sorted(told))}


def _link(handle: Handle) -> dict[str, str]:
    state = ToxiproxyServer(handle.api).proxy(handle.proxy)
    toxics = sorted(state.toxics, key=lambda toxic: toxic.name)
    return {
        "proxy": "enabled" if state.enabled else "disabled",
        "upstream": state.upstream,
        "toxics": msgspec.json.encode(toxics).decode(),
    }


def _network(handle: Handle) -> dict[str, str]:
    links = {link.proxy: _link(handle.of_link(link)) for link in handle.links}
    return {f"{fact} of {proxy}": how for proxy, facts in links.items() for fact, how in facts.items()}


def _container(handle: Handle) -> dict[str, str]:
    state = DockerEngine(handle.docker).container(handle.container)
    joined = {endpoint.network: endpoint.settings for endpoint in state.endpoints}
    return {
        "running": "yes" if state.running else "no",
        "paused": "yes" if state.paused else "no",
        "limit of CPUs": f"{state.cpu.cpus or 'none'}",
        "networks": msgspec.json.encode(joined, order="deterministic").decode(),
    }


LINK_BACKENDS = {"toxiproxy", "network"}
"""handles of which may name the same links"""
OBSERVERS: dict[str, Callable[[Handle], dict[str, str]]] = {
    "process": _process,
    "toxiproxy": _link,
    "network": _network,
    "container": _container,
}
"""by backend of the handle"""


def _helpers(marks: Collection[str]) -> str:
    """Pids of living processes that carry one of the marks."""
    found = {process.pid for mark in marks for process in marked(mark)}
    return " ".join(map(str, sorted(found)))
