"""Who is behind a request: tokens verified once, then remembered for as long as they are used.

Only verified tokens count: with somebody else's user number in a token of one's own making, one does not get at that
user's bucket. What does not verify is a stranger.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from reference_server.security import SignatureRejected, check_operator_token, verify

CAPACITY = 20_000
MAX_TOKEN_BYTES = 512
"""longer ones are not ours; they are left to the handlers, which say so"""
STRANGER, OPERATOR = -1, -2


class _Known(NamedTuple):
    user: int
    until_s: float
    """time.monotonic() at which the token expires"""


class Callers:
    """Turns Authorization headers into user numbers. Bounded."""

    def __init__(self, secret: bytes, users: int) -> None:
        self._secret, self._users = secret, users
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def user(self, headers: Iterable[tuple[bytes, bytes]], now_s: float) -> int:
        """The user number; STRANGER without a token that is good. `now_s` is time.monotonic()."""
        value = _authorization(headers)
        if value is None:
            return STRANGER
        known = self._known.get(value)
        if known is None:
            known = self._verify(value, now_s)
            if known is None:
                return STRANGER
            self._known[value] = known
            if len(self._known) > CAPACITY:
                self._known.popitem(last=False)
        elif known.until_s < now_s:
            del self._known[value]
            return STRANGER
        else:
            self._known.move_to_end(value)
        return known.user

    def is_operator(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether the request bears the operator's token."""
        value = _authorization(headers)
        token = None if value is None else _token(value)
        if token is None:
            return False
        try:
            check_operator_token(self._secret, token)
        except SignatureRejected:
            return False
        return True

    def _verify(self, value: bytes, now_s: float) -> _Known | None:
        token = _token(value)
        if token is None:
            return None
        try:
            number, _, expires = verify(self._secret, "token", token).partition(b":")
        except SignatureRejected:
            return None
        user, left_s = int(number), int(expires) - time.time()
        if left_s <= 0 or not 0 <= user < self._users:
            return None
        return _Known(user, now_s + left_s)


def _authorization(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    for name, value in headers:
        if name == b"authorization":
            return value
    return None


def _token(value: bytes) -> str | None:
    if len(value) > MAX_TOKEN_BYTES or value[:7].lower() != b"bearer ":
        return None
    return value[7:].strip().decode("latin-1")
