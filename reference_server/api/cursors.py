"""The cursor of a feed walk: signed, so that it needs no state on any server and fits only its user.

payload  timestamp µs u64 | user u32 | expiry s u64 | post id 16 bytes     of the last item shown
"""

from __future__ import annotations

import struct
import time

from reference_server.api.problems import Problem
from reference_server.security import SignatureRejected, sign, unverified, verify
from reference_server.timeline.display import Key

CURSOR_TTL_S = 3600
_PURPOSE = "cursor"
_PAYLOAD = struct.Struct(">QIQ16s")


def make_cursor(secret: bytes, user: int, last: Key, now_s: float | None = None) -> str:
    """The cursor that continues behind `last`."""
    expiry = int(time.time() if now_s is None else now_s) + CURSOR_TTL_S
    ts_us, post_id = last
    return sign(secret, _PURPOSE, _PAYLOAD.pack(ts_us, user, expiry, post_id))


def read_cursor(
    secret: bytes, user: int, text: str, now_s: float | None = None, *, unsigned: bool = False, foreign: bool = False
) -> Key:
    """Where the walk goes on. Raises Problem("bad-cursor") on a tampered, foreign or expired one.

    `unsigned`, `foreign`: the planted defects "tampered-cursor" and "foreign-cursor": such cursors are taken for good.
    """
    try:
        payload = unverified(text) if unsigned else verify(secret, _PURPOSE, text)
    except SignatureRejected as error:
        raise Problem("bad-cursor", f"cursor: {error}") from None
    if len(payload) != _PAYLOAD.size:
        raise Problem("bad-cursor", "cursor: malformed")
    ts_us, owner, expiry, post_id = _PAYLOAD.unpack(payload)
    if owner != user and not foreign:
        raise Problem("bad-cursor", "cursor: issued to another user")
    if expiry < (time.time() if now_s is None else now_s):
        raise Problem("bad-cursor", "cursor: expired")
    return ts_us, post_id
