"""HTTP/1.1 request heads (RFC 9112), strictly: what is not plainly well-formed is refused.

A head that two parsers could read differently (bare line feeds, folded headers, spaces before a colon) is how
requests get smuggled past a proxy, so none of that is repaired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_HEAD_BYTES = 8192
END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")


class MalformedRequest(ValueError):
    """Not an HTTP/1.x request head; the message is safe to send back."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """A parsed head. Header names are lower case; a repeated header's values are joined by ", "."""

    method: str
    path: str
    """the target without its query"""
    headers: dict[str, str]

    @property
    def body_bytes(self) -> int:
        """How long a body is announced; 0: none, or one of unknown length."""
        return int(self.headers.get("content-length", "0"))


def is_malformed_already(data: bytes) -> bool:
    """Whether an incomplete head can never become well-formed (so waiting for its end is pointless)."""
    return _BARE_LINE_FEED.search(data) is not None


def parse_head(data: bytes) -> RequestHead:
    """The head in `data`, which is everything before the empty line. Raises MalformedRequest."""
    lines = data.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise MalformedRequest("the request line is not 'METHOD target HTTP/1.1'")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise MalformedRequest("a header line is not 'Name: value'")
        name, value = header[1].decode("ascii").lower(), header[2].strip().decode("latin-1")
        if name == "host" and name in headers:
            raise MalformedRequest("more than one Host header")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if match[3] == b"1" and "host" not in headers:
        raise MalformedRequest("HTTP/1.1 needs a Host header")
    length = headers.get("content-length")
    if length is not None and (_LENGTH.fullmatch(length) is None or "transfer-encoding" in headers):
        raise MalformedRequest("Content-Length is not one number, or is not alone")
    return RequestHead(match[1].decode("ascii"), _path(match[2]), headers)


def _path(target: bytes) -> str:
    """The path of an origin-form or absolute-form target."""
    text = target.decode("ascii")
    if not text.startswith("/"):
        scheme, separator, rest = text.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            raise MalformedRequest("the request target is neither a path nor a URL")
        text = "/" + rest.partition("/")[2]
    return text.partition("?")[0]
