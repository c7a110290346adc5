"""One process of the stack, as data."""

from __future__ import annotations

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
    memcached: tuple[str, ...] = ()
    """addresses, when it is a cache"""
