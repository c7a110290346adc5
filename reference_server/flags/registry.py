"""The flags: one field each, with its default. The text behind a field is its documentation.

A flag that is set at run time is effective in every process of the region within 5 s, and reaches the other regions by
replication; those in START_ONLY are read once, when a process starts.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import msgspec

FlagValue = bool | int | float | str


class Flags(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every flag is set to at one moment."""

    kill_switch: bool = False
    """stop the product: every request of a client is answered 503, data stays"""
    fanout: Literal["push", "pull", "hybrid"] = "push"
    """who does the work: push writes at posting, pull merges at reading, hybrid pulls celebrities only"""
    two_tier: bool = True
    """cold followers are written at their next read; off: all are written at once"""
    celebrity_warm_list: bool = True
    """authors over the celebrity threshold take a throttled path of their own; off: all posts queue together"""
    follower_cache: bool = True
    """fan-out keeps follower pages in redis-cache; off: each page comes from the graph"""
    follower_cache_ttl_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 300
    """how long a follower page is kept"""
    async_import: bool = True
    """inherited follows are imported after the sign-up; off: the sign-up waits for the import"""
    wal: bool = True
    """lanes log what they write; off: what they lose comes from the durable store. A change opens all lanes anew"""
    retention_s: Annotated[int, msgspec.Meta(ge=1)] = 86_400
    """how long a lane keeps a record; older posts come from the durable store"""
    log_buffer_mb: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 32
    """what a lane's log holds in memory before it writes tables"""
    cache_first: bool = True
    """reads begin at memcached; off: they begin at the durable store"""
    cached_entries: Annotated[int, msgspec.Meta(ge=64, le=800)] = 200
    """newest entries of a timeline that are kept in memcached; deeper pages come from the lane's owner"""
    cache_mb: Annotated[int, msgspec.Meta(ge=8, le=65_536)] = 1024
    """memory of each memcached node"""
    presence_gated_notify: bool = True
    """only edges that hold a follower's stream are told of a post; off: all are"""
    sse_buffer_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 20)] = 4096
    """what may wait to be read by one listener"""
    sse_heartbeat_s: Annotated[float, msgspec.Meta(ge=0.05, le=3600)] = 15.0
    """pause between heartbeats of a stream"""
    sse_opens_per_s: Annotated[int, msgspec.Meta(ge=1)] = 5000
    """streams one edge process opens a second; more are answered 503 with Retry-After"""
    drop_slow_listeners: bool = True
    """a listener whose buffer is full is cut; off: it is waited for"""
    read_filters: bool = True
    """blocks, unfollows, age and safety are applied when a feed is read"""
    soft_dedup: bool = True
    """ids a reader has seen are left out of its pages"""
    multi_region: bool = True
    """what happens here is replicated to the other regions; off: replication rests, and catches up later"""
    follow_cap: Annotated[int, msgspec.Meta(ge=1)] = 7500
    """accounts one user may follow by hand"""
    auto_throttle: bool = True
    """per-user rates, and a limit of concurrent requests that adapts to the load"""
    user_reads_per_s: Annotated[int, msgspec.Meta(ge=1)] = 300
    """reads of one user that an api process allows; five seconds' worth may come at once"""
    user_writes_per_s: Annotated[int, msgspec.Meta(ge=1)] = 100
    """writes of one user that an api process allows; five seconds' worth may come at once"""
    degrade: bool = True
    """under pressure optional work is left out, and answers say so; off: everything or nothing"""
    trace_one_in: Annotated[int, msgspec.Meta(ge=1)] = 100
    """of so many posts one is followed through the logs of all processes"""


START_ONLY = frozenset({"cache_mb", "log_buffer_mb"})


class FlagInfo(NamedTuple):
    """One flag as people see it."""

    name: str
    default: FlagValue
    about: str


class FlagInvalid(ValueError):
    """No such flag, or no value for it. The message names flag, value and what was expected."""


def _documented() -> dict[str, FlagInfo]:
    """Each flag with the string that follows it in the source."""
    texts = dict(re.findall(r"^    (\w+): .*\n    \"\"\"(.+?)\"\"\"", inspect.getsource(Flags), re.MULTILINE))
    defaults = Flags()
    return {name: FlagInfo(name, getattr(defaults, name), texts[name]) for name in Flags.__struct_fields__}


FLAGS: dict[str, FlagInfo] = _documented()

PRESETS: dict[str, dict[str, FlagValue]] = {
    "threads": {},
    "x-early": {
        "fanout": "pull",
        "two_tier": False,
        "celebrity_warm_list": False,
        "follower_cache": False,
        "async_import": False,
        "cache_mb": 16,
        "presence_gated_notify": False,
        "multi_region": False,
        "auto_throttle": False,
        "degrade": False,
    },
}
"""Named sets of flags: the whole stack, and one that grew step by step (pull, small cache, no throttle)."""


def make_flags(values: Mapping[str, Any]) -> Flags:
    """The defaults with these values. Raises FlagInvalid."""
    for name in values:
        if name not in FLAGS:
            close = difflib.get_close_matches(name, FLAGS, n=1)
            hint = f" (did you mean '{close[0]}'?)" if close else f" (valid: {', '.join(FLAGS)})"
            raise FlagInvalid(f"unknown flag {name!r}{hint}")
    try:
        return msgspec.convert(dict(values), Flags)
    except msgspec.ValidationError as error:
        name = str(error).partition(" - at `$.")[2].rstrip("`")
        raise FlagInvalid(f"{name}: must be {_valid(name)}, got {values[name]!r}") from None


def _valid(name: str) -> str:
    """The values of a flag, in words: on or off; push, pull, hybrid; a whole number from 1 to 86,400."""
    kind = get_type_hints(Flags, include_extras=True)[name]
    if kind is bool:
        return "on or off"
    base, *about = get_args(kind)
    if isinstance(base, str):
        return f"one of {base}, {', '.join(about)}"
    limits = about[0]
    most = f" to {limits.le:,}" if limits.le is not None else ""
    return f"a {'whole ' if base is int else ''}number from {limits.ge:,}{most}"


def parse_flag(text: str) -> tuple[str, FlagValue]:
    """The flag in "name=value"; booleans may be on, off, true, false. Raises FlagInvalid."""
    name, separator, word = text.partition("=")
    if not name or not separator:
        raise FlagInvalid(f"must be NAME=VALUE, got {text!r}")
    value: FlagValue = word
    if word.lower() in ("on", "off", "true", "false"):
        value = word.lower() in ("on", "true")
    elif re.fullmatch(r"-?\d+(\.\d+)?", word):
        value = float(word) if "." in word else int(word)
    make_flags({name: value})
    return name, value
