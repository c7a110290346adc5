"""Post ids: 16 bytes of a UUIDv7 inside the stack, its lower-case dashed text form on the wire."""

from __future__ import annotations

import os
import re

_TEXT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)


def new_post_id(now_us: int) -> bytes:
    """A fresh UUIDv7 (RFC 9562, 5.7) of this time."""
    random = bytearray(os.urandom(10))
    random[0] = 0x70 | (random[0] & 0x0F)
    random[2] = 0x80 | (random[2] & 0x3F)
    return (now_us // 1000).to_bytes(6, "big") + bytes(random)


def to_text(post_id: bytes) -> str:
    """The wire form."""
    digits = post_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def from_text(text: str) -> bytes | None:
    """The id in its one wire form; None for anything else."""
    return bytes.fromhex(text.replace("-", "")) if _TEXT.fullmatch(text) else None
