"""memcached's meta protocol as bytes: commands out, replies in. No connection, no clock.

A server is not trusted: whatever it sends, however it is cut into pieces, `ReplyReader` gives the same replies, never
raises, and keeps at most one line or value. Once a server says something that is no reply, or that a command of ours
was none (CLIENT_ERROR, ERROR: the data behind it may have been taken for commands), nothing after it can be attributed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

BARRIER = b"mn\r\n"
MAX_LINE_BYTES = 2048
MAX_VALUE_BYTES = 16 << 20
"""a reply's value at most; memcached itself allows 1 MiB unless told otherwise"""
MAX_SIZE_DIGITS = 9
_CODES = frozenset({b"HD", b"EN", b"NF", b"NS", b"EX", b"OK", b"STAT", b"END", b"SERVER_ERROR"})
_KEY = re.compile(r"[!-~]{1,250}")


class Reply(NamedTuple):
    """One answer: `code` is HD, VA, EN, NF, NS, EX or SERVER_ERROR; `value` is a VA's data."""

    code: bytes
    flags: tuple[bytes, ...]
    value: bytes | None = None

    def flag(self, letter: bytes) -> bytes | None:
        """What follows the letter in the returned flags; b"" when the flag has no argument, None when it is absent."""
        for word in self.flags:
            if word[:1] == letter:
                return word[1:]
        return None


class ReplyReader:
    """Splits what a server sends into replies."""

    def __init__(self) -> None:
        self.broken = ""
        """why nothing more can be read; "" as long as all is well"""
        self._rest = bytearray()
        """what came of the next reply"""

    def feed(self, data: bytes) -> list[Reply | None]:
        """The replies that are complete now, in order; None is the answer of a no-op."""
        if data == b"MN\r\n" and not self._rest and not self.broken:
            return [None]
        found: list[Reply | None] = []
        text: bytes | bytearray = data  # whole replies are read from where they are
        if self._rest:
            self._rest += data
            text = self._rest
        position = 0
        while not self.broken:
            after = self._one(text, position, found)
            if after < 0:
                break
            position = after
        if self.broken:
            self._rest.clear()
        elif text is self._rest:
            del self._rest[:position]
        else:
            self._rest += data[position:]
        return found

    def _one(self, text: bytes | bytearray, position: int, found: list[Reply | None]) -> int:
        """Read one reply; returns where it ends, or -1 when it is not whole or no reply."""
        end = text.find(b"\r\n", position, position + MAX_LINE_BYTES + 2)
        if end < 0:
            if len(text) - 1 - position > MAX_LINE_BYTES:
                self.broken = f"a line of more than {MAX_LINE_BYTES} bytes"
            return -1
        line = bytes(text[position:end])
        code, *flags = line.split(b" ")
        if code == b"VA":
            return self._value(text, line, flags, end + 2, found)
        if line == b"MN":
            found.append(None)
        elif code in _CODES:
            found.append(Reply(code, tuple(flags)))
        else:
            self.broken = f"no reply: {line[:80]!r}"
            return -1
        return end + 2

    def _value(
        self, text: bytes | bytearray, line: bytes, flags: list[bytes], start: int, found: list[Reply | None]
    ) -> int:
        size = int(flags[0]) if flags and flags[0].isdigit() and len(flags[0]) <= MAX_SIZE_DIGITS else -1
        if not 0 <= size <= MAX_VALUE_BYTES:
            self.broken = f"no size: {line[:80]!r}"
            return -1
        end = start + size
        if len(text) < end + 2:
            return -1
        if text[end : end + 2] != b"\r\n":
            self.broken = f"a value that is longer than its size: {line[:80]!r}"
            return -1
        found.append(Reply(b"VA", tuple(flags[1:]), bytes(text[start:end])))
        return end + 2


def set_command(key: str, value: bytes, ttl_s: int) -> bytes:
    """A quiet set. Raises ValueError for what memcached would not take as a key."""
    return b"ms %b %d T%d q\r\n%b\r\n" % (key_bytes(key), len(value), ttl_s, value)


def key_bytes(key: str) -> bytes:
    """A key as it stands in a command: 1 to 250 visible ASCII characters. Raises ValueError for any other."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"no memcached key: {key[:80]!r}")
    return key.encode()
