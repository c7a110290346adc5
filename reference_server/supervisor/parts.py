"""The list of all parts of a stack, from its settings."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from reference_server.durable.sqlite_writer import FILE_NAME
from reference_server.flags import make_flags
from reference_server.settings import Region, Settings
from reference_server.supervisor.part import Layer, Part
from reference_server.supervisor.programs import find_program

HOST = "127.0.0.1"
EDGE = "edge"
SERVICES = ("graph", "fanout", "jobs", "replicator", "api", "fep", EDGE)
"""kinds of parts that can be left out, heaviest start first; all but the last are Python"""
_MODULES = {"fanout": "fanout", "graph": "graph", "fep": "fep", "jobs": "jobs", "replicator": "replication"}


def all_parts(settings: Settings, settings_path: Path, only: Collection[str] = SERVICES) -> list[Part]:
    """Stores of all regions, then the Python parts of the kinds in `only`; edges stand apart, in edge_proxy.

    Raises StackUnavailable.
    """
    parts: list[Part] = []
    for region in settings.regions:
        parts += _memcached(region, make_flags(settings.flags).cache_mb)
        parts.append(_redis_queue(settings, region))
        parts.append(_redis_cache(settings, region))
    for kind in SERVICES:
        if kind in only and kind != EDGE:
            for region in settings.regions:
                parts += _services(settings, settings_path, region, kind)
    return parts


def toxiproxy_part(program: str, port: int) -> Part:
    """The one server that carries all links."""
    argv = (program, "-host", HOST, "-port", str(port))
    return Part("toxiproxy", "toxiproxy", argv, f"http://{HOST}:{port}/version", Layer.STORE)


def lanes_folder(directory: Path, region: str) -> Path:
    """Where the region's lanes keep their logs."""
    return directory / region / "lanes"


def _memcached(region: Region, megabytes: int) -> Iterator[Part]:
    user = pwd.getpwuid(os.geteuid()).pw_name
    for k, port in enumerate(region.memcached_ports):
        options = ["-l", HOST, "-p", str(port), "-U", "0", "-t", "1", "-m", str(megabytes), "-c", "4096", "-u", user]
        yield Part(
            handle=_numbered(region, "memcached", k),
            log_name=f"{region.name}.memcached-{k}",
            argv=(find_program("memcached"), *options),
            probe=f"tcp://{HOST}:{port}",
            layer=Layer.STORE,
            region=region.name,
            clock=f"memcached://{HOST}:{port}",
            memcached=(f"{HOST}:{port}",),
        )


def _redis(region: Region, name: str, port: int, options: dict[str, str]) -> Part:
    common = {"port": str(port), "bind": HOST, "save": "", "daemonize": "no", "logfile": ""}
    common["set-proc-title"] = "no"  # a title would overwrite the environment, and with it the stack's mark
    words = [word for key, value in (common | options).items() for word in (f"--{key}", value)]
    return Part(
        handle=f"{region.name}.{name}",
        log_name=f"{region.name}.{name}",
        argv=(find_program("redis-server"), *words),
        probe=f"redis://{HOST}:{port}",
        layer=Layer.STORE,
        region=region.name,
        clock=f"redis://{HOST}:{port}",
        redis=f"{HOST}:{port}",
    )


def _redis_queue(settings: Settings, region: Region) -> Part:
    """Loses nothing: every reply follows its write to the log (appendfsync always), and nothing is evicted."""
    options = {
        "dir": str(settings.data(region.name, "redis-queue")),
        "appendonly": "yes",
        "appendfsync": "always",
        "auto-aof-rewrite-min-size": "256mb",
        "maxmemory-policy": "noeviction",
    }
    return _redis(region, "redis-queue", region.redis_queue_port, options)


def _redis_cache(settings: Settings, region: Region) -> Part:
    options = {
        "dir": str(settings.data(region.name, "redis-cache")),
        "appendonly": "no",
        "maxmemory": "256mb",
        "maxmemory-policy": "allkeys-lru",
    }
    return _redis(region, "redis-cache", region.redis_cache_port, options)


def _services(settings: Settings, settings_path: Path, region: Region, kind: str) -> Iterator[Part]:
    counts = {"fanout": region.fanout_workers, "api": len(region.api_ports), "fep": len(region.fep_ports)}
    for k in range(counts.get(kind, 1)):
        name = f"{kind}-{k}" if kind in counts else kind
        argv, env = _command(settings, settings_path, region, kind, k, name)
        yield Part(
            handle=_numbered(region, kind, k),
            log_name=f"{region.name}.{name}",
            argv=tuple(argv),
            probe=_probe(settings, region, kind, k, name),
            layer=Layer.SERVICE,
            region=region.name,
            env=env,
            clock=_clock(region, kind, k, name),
            durable=str(settings.data(region.name) / FILE_NAME) if kind == "jobs" else "",
            log=str(lanes_folder(Path(settings.directory), region.name)) if kind == "fanout" else "",
            stream=f"http://{HOST}:{region.fep_ports[k]}/v1/stream" if kind == "fep" else "",
            reads=f"http://{HOST}:{region.api_ports[k]}/v1/feed" if kind == "api" else "",
            flags=f"http://{HOST}:{region.api_ports[k]}/v1/operator/flags" if kind == "api" else "",
        )


def _command(
    settings: Settings, settings_path: Path, region: Region, kind: str, k: int, name: str
) -> tuple[list[str], dict[str, str]]:
    if kind == "api":
        from reference_server.api.command import api_command

        return api_command(settings_path, settings, region.name, k)
    words = ["--settings", str(settings_path), "--region", region.name, "--name", name]
    return [sys.executable, "-m", f"reference_server.{_MODULES[kind]}", *words], {}


def _probe(settings: Settings, region: Region, kind: str, k: int, name: str) -> str:
    if kind == "api":
        return f"http://{HOST}:{region.api_ports[k]}/readyz"
    if kind == "fep":
        return f"http://{HOST}:{region.fep_ports[k]}/readyz"
    return f"unix://{settings.socket(region.name, name)}"


def _clock(region: Region, kind: str, k: int, name: str) -> str:
    ports = {"api": region.api_ports, "fep": region.fep_ports}.get(kind)
    return f"http://{HOST}:{ports[k] if ports else region.metrics_ports[name]}/healthz"


def _numbered(region: Region, kind: str, k: int) -> str:
    """The first of a kind goes by the kind's name alone."""
    return f"{region.name}.{kind}" if k == 0 else f"{region.name}.{kind}-{k}"
