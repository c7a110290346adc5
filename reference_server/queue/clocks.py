"""Hybrid clocks (µs << 8 | region index) as redis-queue keeps and compares them.

Posts and flags: 20 digits, so that they compare as text. The graph: their time in µs, which a script can reckon with
(its numbers are doubles), and write into an encoded event.
"""

from __future__ import annotations

import msgspec

from reference_server.events import GraphEvent, encode

GRAPH_CLOCK = "clock:graph"
"""key: the latest time of all changes of the graph known in a region, own and replicated"""
CLOCK_DIGITS = 20
REGION_BITS = 8
_U64 = 0xCF
"""msgpack's head of an 8-byte number"""


def clock_text(hlc: int) -> str:
    """The clock with leading zeros."""
    return f"{hlc:0{CLOCK_DIGITS}d}"


def clock_above(hlc: int, region_index: int) -> int:
    """The first clock of that region behind `hlc`."""
    return (hlc >> REGION_BITS) + 1 << REGION_BITS | region_index


def encode_clocked(event: GraphEvent) -> bytes:
    """The event as stored, its clock always in 8 bytes, so that a script may write a later one in place."""
    encoded, start = encode(event), clock_offset(event) - 1
    if encoded[start] == _U64:
        return encoded
    rest = start + len(msgspec.msgpack.encode(event.hlc))
    return encoded[:start] + bytes([_U64]) + event.hlc.to_bytes(8, "big") + encoded[rest:]


def clock_offset(event: GraphEvent) -> int:
    """Where the 8 bytes of the clock stand (array head, tag, verb, user, 0xcf)."""
    pack = msgspec.msgpack.encode
    return 1 + len(pack("graph")) + len(pack(event.verb)) + len(pack(event.user)) + 1
