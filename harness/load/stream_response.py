"""The HTTP/1.1 side of a stream: the request, the response head, and the chunked coding. Pure, and lean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

MAX_HEAD_BYTES = 16384
MAX_CHUNK_LINE_BYTES = 1024
NEVER_S = 1e9
"""a server may say a longer time; that is as good as never"""
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [^\r\n]*)?")


class BadResponse(ValueError):
    """Not an HTTP/1.x response we can read."""


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and headers (names in lower case)."""

    status: int
    headers: dict[str, str]

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is what we asked for."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream"

    @property
    def retry_after_s(self) -> float:
        """Retry-After in seconds; 0 when absent or a date."""
        value = self.headers.get("retry-after", "")
        return min(float(value), NEVER_S) if value.isdecimal() else 0.0


class StreamRequest(NamedTuple):
    """What a listener asks for."""

    host: str
    path: str
    token: str
    last_event_id: str
    """empty: from now on"""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names, in lower case, and values."""
        resume = [("last-event-id", self.last_event_id)] if self.last_event_id else []
        plain = [("accept", "text/event-stream"), ("cache-control", "no-store")]
        return [*plain, ("authorization", f"Bearer {self.token}"), *resume]

    def http1(self) -> bytes:
        """As HTTP/1.1."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers)
        return f"GET {self.path} HTTP/1.1\r\nhost: {self.host}\r\n{lines}\r\n".encode()


def split_head(data: bytes) -> tuple[ResponseHead | None, bytes]:
    """The head in `data` and what follows it; (None, data) while it is incomplete. Raises BadResponse."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > MAX_HEAD_BYTES:
            raise BadResponse("the response head does not end")
        return None, data
    status_line, *lines = data[:end].split(b"\r\n")
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise BadResponse(f"not an HTTP response: {status_line[:40]!r}")
    headers = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
    return ResponseHead(int(match[1]), headers), data[end + 4 :]


class Chunks:
    """Takes the chunked transfer coding (RFC 9112, 7.1) off a body that comes in pieces."""

    __slots__ = ("_left", "_line", "ended")

    def __init__(self) -> None:
        self._left = 0
        """bytes of the current chunk still to come, its final CR LF included"""
        self._line = b""
        self.ended = False
        """the last chunk has come"""

    def feed(self, data: bytes) -> bytes:
        """The payload in `data`. Raises BadResponse."""
        payload = []
        while data and not self.ended:
            if self._left:
                take = data[: self._left]
                payload.append(take[: max(0, self._left - 2)])
                self._left -= len(take)
                data = data[len(take) :]
                continue
            line, found, data = (self._line + data).partition(b"\r\n")
            if not found:
                self._keep(line)
                break
            self._line = b""
            self._size(line)
        return b"".join(payload)

    def _keep(self, line: bytes) -> None:
        if len(line) > MAX_CHUNK_LINE_BYTES:
            raise BadResponse("a chunk's size line does not end")
        self._line = line

    def _size(self, line: bytes) -> None:
        digits = line.partition(b";")[0].strip()
        if re.fullmatch(rb"[0-9A-Fa-f]{1,15}", digits) is None:
            raise BadResponse(f"not a chunk size: {line[:20]!r}")
        size = int(digits, 16)
        self.ended = size == 0
        self._left = size + 2 if size else 0
