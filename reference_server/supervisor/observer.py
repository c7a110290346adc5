"""A running stack as people want to see it: what each part uses, what each region does. For `status`.

Rates and shares of a processor are those since the last look; the first look has none.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

import msgspec

from reference_server.flags import Flags
from reference_server.flags.watch import FlagWatch
from reference_server.observability.scrapes import Series, scrape_all
from reference_server.settings import Region, Settings, read_settings
from reference_server.supervisor.control import StackStatus, read_endpoints, stack_status_now
from reference_server.supervisor.endpoints import Endpoints
from reference_server.supervisor.layout import StackDirectory, read_pid_file
from reference_server.supervisor.parts import EDGE
from reference_server.supervisor.sweep import marked
from reference_server.supervisor.usage import Usage, usage_by_group

FLAGS_LIMIT_S = 1.0
SUPERVISOR = "supervisor"
_Flag = bool | int | float | str


class PartUsage(msgspec.Struct, kw_only=True, frozen=True):
    """What one handle uses."""

    cpu_ratio: float | None
    """of one core, since the last look"""
    memory_bytes: int
    restarts: int


class RegionFigures(msgspec.Struct, kw_only=True, frozen=True):
    """What one region does. A rate is None at the first look, everything else while nobody can tell."""

    posts_per_s: float | None
    feed_reads_per_s: float | None
    fanout_entries_per_s: float | None
    events_per_s: float | None
    """written to streams"""
    hit_ratio: float | None
    """feed reads that the cache answered; since the last look if there were any, else since the start"""
    queue_depth: dict[str, int]
    """stream of redis-queue -> entries"""
    streams_open: int
    replication_lag_s: float | None
    overload_level: int | None
    """the highest of the region's api processes"""
    flags: dict[str, _Flag]
    """those that differ from the defaults"""


class StackView(msgspec.Struct, kw_only=True, frozen=True):
    """Everything `status` shows."""

    status: StackStatus
    usage: dict[str, PartUsage] = {}
    """handle, "supervisor" or "toxiproxy" -> what it uses"""
    figures: dict[str, RegionFigures] = {}


@dataclass
class _Look:
    """What was seen at one moment."""

    at_s: float
    usage: dict[str, tuple[int, Usage]]
    """handle -> (pid, usage)"""
    series: dict[str, Series]


class Observer:
    """Looks at one stack again and again."""

    def __init__(self, stack: StackDirectory) -> None:
        self._stack = stack
        self._before: _Look | None = None

    async def look(self) -> StackView:
        """The stack as it is now."""
        status = await stack_status_now(self._stack)
        running, endpoints = self._stack.running(), read_endpoints(self._stack)
        if running is None or endpoints is None:
            self._before = None
            return StackView(status=status)
        try:
            settings = read_settings(self._stack.settings)
        except (OSError, msgspec.MsgspecError):
            return StackView(status=status)
        pids = [running.pid, *(pid for pid in marked(running.marker) if pid != os.getpid())]
        now = _Look(time.monotonic(), self._usage(status, pids, running.pid), await _series(endpoints))
        flags = await asyncio.gather(*(_flags(settings, region) for region in settings.regions))
        view = StackView(
            status=status,
            usage=self._part_usage(now),
            figures={
                region.name: self._figures(now, region.name, changed)
                for region, changed in zip(settings.regions, flags, strict=True)
            },
        )
        self._before = now
        return view

    def _usage(self, status: StackStatus, pids: list[int], supervisor: int) -> dict[str, tuple[int, Usage]]:
        groups = usage_by_group(pids)
        leaders = {handle: found.pid for handle, found in status.handles.items() if found.pid}
        toxiproxy = read_pid_file(self._stack.pid_file("toxiproxy"))
        if toxiproxy is not None:
            leaders["toxiproxy"] = toxiproxy[0]
        usage = {handle: (pid, groups[pid]) for handle, pid in leaders.items() if pid in groups}
        for found in usage_by_group([supervisor]).values():  # alone: its group may be a shell's
            usage[SUPERVISOR] = (supervisor, found)
        return usage

    def _part_usage(self, now: _Look) -> dict[str, PartUsage]:
        restarts = _restarts(self._stack)
        result = {}
        for handle, (pid, used) in now.usage.items():
            ratio = None
            before = self._before.usage.get(handle) if self._before is not None else None
            if self._before is not None and before is not None and before[0] == pid:
                ratio = max(0.0, used.cpu_s - before[1].cpu_s) / (now.at_s - self._before.at_s)
            result[handle] = PartUsage(
                cpu_ratio=ratio, memory_bytes=used.memory_bytes, restarts=restarts.get(handle, 0)
            )
        return result

    def _figures(self, now: _Look, region: str, flags: dict[str, _Flag]) -> RegionFigures:
        series = now.series.get(region) or Series(())
        before = self._before.series.get(region) if self._before is not None else None
        seconds = now.at_s - self._before.at_s if self._before is not None else 0.0

        def per_s(*names: str) -> float | None:
            if before is None:
                return None
            return max(0.0, sum(series.total(name) - before.total(name) for name in names)) / seconds

        level = series.largest("feed_overload_level")
        return RegionFigures(
            posts_per_s=per_s("api_posts_total"),
            feed_reads_per_s=per_s("api_feed_reads_total"),
            fanout_entries_per_s=per_s("feed_fanout_entries_total", "feed_fanout_owed_entries_total"),
            events_per_s=per_s("feed_stream_events_total"),
            hit_ratio=_hit_ratio(series, before),
            queue_depth={name: int(depth) for name, depth in series.by_label("feed_queue_depth", "stream").items()},
            streams_open=int(series.total("feed_streams_open")),
            replication_lag_s=series.largest("feed_replication_lag_seconds"),
            overload_level=None if level is None else int(level),
            flags=flags,
        )


def _hit_ratio(series: Series, before: Series | None) -> float | None:
    name = "api_feed_reads_total"
    for base in (before, Series(())):
        if base is None:
            continue
        reads = series.total(name) - base.total(name)
        if reads > 0:
            return (series.total(name, source="cache") - base.total(name, source="cache")) / reads
    return None


async def _series(endpoints: Endpoints) -> dict[str, Series]:
    """By region; the edge proxy, whose exporter says a lot, is left out."""
    urls = {
        name: [url for part, url in region.metrics.items() if part != EDGE]
        for name, region in endpoints.regions.items()
    }
    found = await asyncio.gather(*(scrape_all(wanted) for wanted in urls.values()))
    return dict(zip(urls, found, strict=True))


async def _flags(settings: Settings, region: Region) -> dict[str, _Flag]:
    """The region's flags that differ from the defaults, as redis-queue has them (or the stack's start, without it)."""
    watch = FlagWatch(settings, region)
    try:
        async with asyncio.timeout(FLAGS_LIMIT_S):
            await watch.look()
    except TimeoutError:
        pass
    finally:
        await watch.close()
    defaults, now = Flags(), watch.now
    return {name: getattr(now, name) for name in now.__struct_fields__ if getattr(now, name) != getattr(defaults, name)}


def _restarts(stack: StackDirectory) -> dict[str, int]:
    try:
        return msgspec.json.decode(stack.restarts.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError):
        return {}
