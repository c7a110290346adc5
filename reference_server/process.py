"""How every Python process of the stack lives: settings, logging, uvloop, `/metrics`, a clean end.

`run(main)` reads `--settings FILE --region NAME --name NAME` and awaits `main(context)` under uvloop. SIGTERM, SIGINT
set `context.stopping`; main returns, and that ends the process. So does an error in following the flags: rather a new
process than old flags. If the parent dies, the kernel ends us at once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import uvloop
from prometheus_client import REGISTRY, generate_latest

from reference_server.flags.watch import FlagWatch
from reference_server.inner_links import seen_by
from reference_server.observability.logs import configure_logging
from reference_server.observability.process_metrics import observed
from reference_server.parent import die_with_parent
from reference_server.settings import Region, Settings, read_settings


@dataclass(frozen=True)
class Context:
    """What a process knows about itself."""

    settings: Settings
    region: Region
    """as this process reaches it"""
    name: str
    """name of the part: "graph", "fanout-0", "fep-0", ..."""
    stopping: asyncio.Event
    flags: FlagWatch

    @property
    def secret(self) -> bytes:
        """The signing secret."""
        return bytes.fromhex(self.settings.secret)

    def socket(self, name: str) -> str:
        """Unix socket of a part of this region."""
        return self.settings.socket(self.region.name, name)


async def metrics() -> bytes:
    """RPC handler "metrics" of every part: its Prometheus text. The api joins them at /metrics."""
    return generate_latest(REGISTRY)


def run(main: Callable[[Context], Awaitable[None]]) -> None:
    """Run one part of the stack until it is told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--name", required=True)
    arguments = parser.parse_args()
    parent = os.getppid()
    die_with_parent()
    if os.getppid() != parent:
        sys.exit(0)
    settings = read_settings(arguments.settings)
    configure_logging(f"{arguments.region}.{arguments.name}")

    async def start() -> None:
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, stopping.set)
        region = seen_by(settings.region(arguments.region), arguments.name)
        port = region.metrics_ports.get(arguments.name, 0)
        flags = FlagWatch(settings, region)
        await flags.look()
        following = asyncio.create_task(flags.run())
        following.add_done_callback(lambda _: stopping.set())
        try:
            async with observed(port):
                await main(Context(settings, region, arguments.name, stopping, flags))
        finally:
            following.cancel()
            await asyncio.wait([following])
        if not following.cancelled():
            following.result()

    uvloop.run(start())
