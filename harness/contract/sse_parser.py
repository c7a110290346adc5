"""Server-sent events out of bytes: the whole of the WHATWG parsing rules (HTML standard, 9.2.5 and 9.2.6). Pure.

Bytes may be cut anywhere: inside a CR LF pair, a byte order mark or a UTF-8 sequence. An event that the end of the
stream cuts off is dropped, and its id with it: the listener will ask for it again.

In one thing we do as browsers do, not as the standard's letter says: the id of an earlier connection stays until the
server names another one. By the letter it is forgotten at the first event without an id, and the place to resume from
with it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MAX_BYTES: Final = 1 << 20
"""of a line, and of the data of an event"""
MAX_RETRY_MS: Final = 10**18
"""a server may ask for a longer time; that is as good as never"""
_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_DIGITS: Final = re.compile(rb"[0-9]+")
# One whole event as servers usually write it, so that the common case costs one match.
_WHOLE: Final = re.compile(rb"id: ?([^\r\n\0]*)\nevent: ?([^\r\n]*)\ndata: ?([^\r\n]*)\n\n")


class SseEvent(NamedTuple):
    """One dispatched event."""

    type: str
    """ "message" when the server named none"""
    data: str
    last_event_id: str


class TooLong(ValueError):
    """A line, or an event, without end: not a server we can listen to."""


class SseParser:
    """State between two pieces of one stream. Make a new one for each connection."""

    __slots__ = (
        "_after_cr",
        "_data",
        "_id",
        "_rest",
        "_started",
        "_type",
        "first_event_id",
        "last_event_id",
        "retry_ms",
    )

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        """what Last-Event-ID should be on the next request"""
        self.first_event_id: str | None = None
        """the first id the server named on this stream; None before"""
        self.retry_ms: int | None = None
        """the reconnection time the server asked for"""
        self._id = last_event_id
        self._rest = b""
        self._started = False
        self._after_cr = False
        self._data: bytearray | None = None
        """each line of the event's data so far, with a line feed behind it"""
        self._type = b""

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that `data` completes, in order. Raises TooLong."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        if not self._started:
            if len(data) < 3 and _BOM.startswith(data):
                self._rest = data
                return []
            self._started = True
            data = data.removeprefix(_BOM)
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        events: list[SseEvent] = []
        start, end = 0, len(data)
        while start < end:
            whole = _WHOLE.match(data, start) if self._data is None and not self._type else None
            if whole is not None and whole.end() - start <= MAX_BYTES:
                start = self._take_event(whole, events)
            else:
                start = self._take_line(data, start, events)
            if start < 0:
                break
        return events

    def _take_event(self, whole: re.Match[bytes], events: list[SseEvent]) -> int:
        self._id = self.last_event_id = _text(whole[1])
        if self.first_event_id is None:
            self.first_event_id = self._id
        events.append(SseEvent(_text(whole[2]) or "message", _text(whole[3]), self._id))
        return whole.end()

    def _take_line(self, data: bytes, start: int, events: list[SseEvent]) -> int:
        """Take one line; returns where the next one starts, or -1 after keeping an incomplete one."""
        match = _LINE_END.search(data, start)
        if match is None:
            self._rest = data[start:]
            _bound(self._rest, "a line")
            return -1
        if match.end() == len(data) and data.endswith(b"\r"):
            self._after_cr = True  # a line feed that comes next belongs to this line end
        line = data[start : match.start()]
        if line:
            _bound(line, "a line")
            self._take_field(line)
        else:
            self._dispatch(events)
        return match.end()

    def _take_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            if self._data is None:
                self._data = bytearray()
            self._data += value
            _bound(self._data, "data of an event")
            self._data += b"\n"
        elif name == b"event":
            self._type = value
        elif name == b"id":
            if b"\0" not in value:
                self._id = _text(value)
                if self.first_event_id is None:
                    self.first_event_id = self._id
        elif name == b"retry" and _DIGITS.fullmatch(value):
            self.retry_ms = _milliseconds(value)

    def _dispatch(self, events: list[SseEvent]) -> None:
        """The empty line: the id takes effect; without data there is no event."""
        self.last_event_id = self._id
        data, event_type = self._data, self._type
        self._data, self._type = None, b""
        if data is not None:
            events.append(SseEvent(_text(event_type) or "message", _text(data[:-1]), self._id))


def _bound(taken: bytes | bytearray, what: str) -> None:
    if len(taken) > MAX_BYTES:
        raise TooLong(f"{what} of more than {MAX_BYTES} bytes")


def _milliseconds(digits: bytes) -> int:
    """Any number of digits, with zeros before them too."""
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) < len(str(MAX_RETRY_MS)) else MAX_RETRY_MS


def _text(value: bytes | bytearray) -> str:
    return value.decode("utf-8", "replace")
