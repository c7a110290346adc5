"""One process of the stack, as data."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Layer(IntEnum):
    """What is ended first when the stack goes down: the higher layer."""

    STORE = 0
    SERVICE = 1


@dataclass(frozen=True)
class Part:
    """What to run, and how to see that it serves."""

    handle: str
    """what chaos and people call it: "us-east.memcached" """
    log_name: str
    """"us-east.memcached-0": name of its log file"""
    argv: tuple[str, ...]
    probe: str
    """tcp://, redis:// (answers PING), http:// (answers 200) or unix:// (answers the call "ping")"""
    layer: Layer
    region: str = ""
    """empty: belongs to the stack as a whole"""
    env: Mapping[str, str] = field(default_factory=dict)
    clock: str = ""
    """tells its clock: http:// (Date header), redis:// (TIME) or memcached:// (stats); empty: nobody can ask"""
    memcached: tuple[str, ...] = ()
    """addresses, when it is a cache"""
    redis: str = ""
    """address, when it is a redis server"""
    durable: str = ""
    """file of the durable store, when it writes it"""
    log: str = ""
    """directory of its log, when it has one"""
    stream: str = ""
    """URL of the event streams, when it serves them"""
    reads: str = ""
    """URL of a user's feed, when it serves feeds"""
    flags: str = ""
    """URL of the feature flags, when an operator reads and sets them there"""
    stop_signal: signal.Signals = signal.SIGTERM
    """what asks it to end in its own time"""
