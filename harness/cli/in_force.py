"""Waits until flags that were set are in force: at every api, then in every other process of its region.

An api tells the values themselves, and in the header `Flags-Version` how many changes of its region it follows. The
other processes of our stack export the same figure (`feed_flags_version`); what an api follows, they must follow too. A
process that exports no such figure (the edge proxy) has no flags.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

import httpx

from harness.contract.client import FeedClient, Flag
from harness.contract.profile import RegionUrls
from harness.core.errors import UnavailableError

IN_FORCE_S = 10.0
"""how long is waited until all processes have what was set (the contract says 5 s)"""
POLL_S = 0.1
_VERSION = re.compile(r"^feed_flags_version (\S+)$", re.MULTILINE)


class Api(NamedTuple):
    """One api process of the target."""

    region: str
    url: str

    @property
    def name(self) -> str:
        """How people are told of it."""
        return f"{self.region} {self.url}".strip()


class Process(NamedTuple):
    """Another process of a region, by its Prometheus text."""

    region: str
    part: str
    metrics: str

    @property
    def name(self) -> str:
        """How people are told of it."""
        return f"{self.region} {self.part}"


async def seconds_in_force(
    client: FeedClient, apis: Sequence[Api], processes: Sequence[Process], wanted: Sequence[Flag]
) -> dict[str, float]:
    """Process -> seconds until it has the values. Raises UnavailableError."""
    started_s = time.monotonic()
    found = await asyncio.gather(*(_at_api(client, api, wanted, started_s) for api in apis))
    versions: dict[str, float] = {}
    for api, (_, version) in zip(apis, found, strict=True):
        versions[api.region] = max(versions.get(api.region, 0.0), version)
    told = await asyncio.gather(*(_at(client, one, versions.get(one.region, 0.0), started_s) for one in processes))
    took = {api.name: took_s for api, (took_s, _) in zip(apis, found, strict=True)}
    return took | {one.name: took_s for one, took_s in zip(processes, told, strict=True) if took_s is not None}


async def _at_api(client: FeedClient, api: Api, wanted: Sequence[Flag], started_s: float) -> tuple[float, float]:
    """Seconds until this api has the values, and the version of the flags that it has then."""
    values = {flag.name: flag.value for flag in wanted}
    asking = client.at(RegionUrls(api=api.url, stream=""))
    while True:
        result = await asking.flags()
        if result.ok and values.items() <= {flag.name: flag.value for flag in result.get().flags}.items():
            return _since(started_s), float(result.headers.get("flags-version", "0"))
        _check_limit(started_s, api.name, result.error or "it still has the old value")
        await asyncio.sleep(POLL_S)


async def _at(client: FeedClient, process: Process, version: float, started_s: float) -> float | None:
    """Seconds until this process follows that version of the flags; None: it has no flags."""
    while True:
        try:
            found = await _version(client.http, process.metrics)
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
        else:
            if found is None or found >= version:
                return None if found is None else _since(started_s)
            why = "it still follows the old values"
        _check_limit(started_s, process.name, why)
        await asyncio.sleep(POLL_S)


async def _version(http: httpx.AsyncClient, url: str) -> float | None:
    """What the process exports. Raises httpx.HTTPError."""
    answer = await http.get(url)
    answer.raise_for_status()
    match = _VERSION.search(answer.text)
    return float(match[1]) if match else None


def _since(started_s: float) -> float:
    return round(time.monotonic() - started_s, 2)


def _check_limit(started_s: float, name: str, why: str) -> None:
    if time.monotonic() - started_s > IN_FORCE_S:
        raise UnavailableError(f"set, but not in force at {name} within {IN_FORCE_S:g} s: {why}")
