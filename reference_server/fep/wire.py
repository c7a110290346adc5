"""The bytes the edge writes: responses, event blocks, resume tokens. Pure.

A resume token is "{region}.{epoch}.{record}"; the arrival number of a timeline slot is epoch << 48 | record.
"""

from __future__ import annotations

import email.utils
import re
import uuid
from collections.abc import Iterable

import msgspec

HEARTBEAT = b": hb\n\n"
_EPOCH_BITS = 48
_RECORD_MASK = (1 << _EPOCH_BITS) - 1
_TOKEN = re.compile(r"(.+)\.([0-9]{1,5})\.([0-9]{1,15})", re.ASCII)
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n"
    b"X-Accel-Buffering: no\r\nConnection: close\r\n\r\n"
)


def token(region: str, seq: int) -> str:
    """The resume token of an arrival number."""
    return f"{region}.{seq >> _EPOCH_BITS}.{seq & _RECORD_MASK}"


def seq_of(region: str, text: str) -> int | None:
    """The arrival number a token of this region stands for; None for a foreign or garbled one."""
    match = _TOKEN.fullmatch(text)
    if match is None or match[1] != region:
        return None
    epoch, record = int(match[2]), int(match[3])
    if epoch >= 1 << 16 or record > _RECORD_MASK:
        return None
    return epoch << _EPOCH_BITS | record


def first_of_epoch(seq: int) -> int:
    """The first arrival number of the same epoch (planted defect "token-falls-back")."""
    return seq & ~_RECORD_MASK | 1


def new_post(region: str, seq: int, post: bytes) -> bytes:
    """The event that tells of one post (its 16-byte id); the same bytes serve every follower its record reached."""
    return b'id: %b\nevent: new_post\ndata: {"type":"new_post","id":"%b"}\n\n' % (
        token(region, seq).encode(),
        str(uuid.UUID(bytes=post)).encode(),
    )


def resync(region: str, head: int) -> bytes:
    """The event that says a gap cannot be filled: read the feed again, then go on from `head`."""
    return b'id: %b\nevent: resync\ndata: {"type":"resync"}\n\n' % token(region, head).encode()


def anchor(region: str, seq: int) -> bytes:
    """A block without data: it only moves the listener's last event id."""
    return b"id: %b\n\n" % token(region, seq).encode()


def first_block(region: str, seq: int, retry_ms: int) -> bytes:
    """The reconnection time and the point the stream starts from."""
    return b"retry: %d\nid: %b\n\n" % (retry_ms, token(region, seq).encode())


def response(status: int, content_type: str, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A whole response; the connection closes after it."""
    lines = [f"HTTP/1.1 {status} {_REASONS[status]}", f"Date: {email.utils.formatdate(usegmt=True)}"]
    lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    lines += ["Cache-Control: no-store", "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def problem(status: int, slug: str, detail: str, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """An RFC 9457 problem as a whole response."""
    document = {
        "type": f"urn:feedstorm:problem:{slug}",
        "title": _REASONS[status],
        "status": status,
        "detail": detail,
    }
    return response(status, "application/problem+json", msgspec.json.encode(document), headers)
