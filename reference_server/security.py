"""Signed tokens and cursors: keyed BLAKE2b (RFC 7693) over a short payload, compared in constant time.

    text form: base64url(payload) "." base64url(16 bytes of BLAKE2b(key = secret, purpose | payload))
The purpose keeps a cursor from passing for a token. Why not HMAC-SHA256: OpenSSL 3 looks its algorithms up anew at each
call, which made signing a cursor a twentieth of what a feed page costs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time

TOKEN_TTL_S = 24 * 3600
_MAC_BYTES = 16


class SignatureRejected(ValueError):
    """Not something we signed, or expired. The message says which, never what was expected."""


def sign(secret: bytes, purpose: str, payload: bytes) -> str:
    """The signed text form of `payload`."""
    return f"{_b64(payload)}.{_b64(_mac(secret, purpose, payload))}"


def verify(secret: bytes, purpose: str, text: str) -> bytes:
    """The payload of a text made by `sign`. Raises SignatureRejected."""
    payload_text, _, mac_text = text.partition(".")
    try:
        payload, mac = _unb64(payload_text), _unb64(mac_text)
    except (binascii.Error, ValueError, UnicodeEncodeError):
        raise SignatureRejected("malformed") from None
    if not hmac.compare_digest(mac, _mac(secret, purpose, payload)):
        raise SignatureRejected("signature does not match")
    if text != f"{_b64(payload)}.{_b64(mac)}":
        raise SignatureRejected("malformed")  # base64's spare bits: one value has one text
    return payload


def unverified(text: str) -> bytes:
    """The payload of such a text, whoever signed it (planted defect "tampered-cursor"). Raises SignatureRejected."""
    try:
        return _unb64(text.partition(".")[0])
    except (binascii.Error, ValueError, UnicodeEncodeError):
        raise SignatureRejected("malformed") from None


def make_token(secret: bytes, user: int, now_s: float | None = None) -> tuple[str, int]:
    """An access token for the user, and when it expires (Unix seconds)."""
    expires = int(time.time() if now_s is None else now_s) + TOKEN_TTL_S
    return sign(secret, "token", b"%d:%d" % (user, expires)), expires


def token_user(secret: bytes, token: str, now_s: float | None = None) -> int:
    """The user a token stands for. Raises SignatureRejected."""
    user, _, expires = verify(secret, "token", token).partition(b":")
    if int(expires) < (time.time() if now_s is None else now_s):
        raise SignatureRejected("expired")
    return int(user)


def make_operator_token(secret: bytes, now_s: float | None = None) -> str:
    """A token that lets its holder operate the stack (flags, moderation) as long as the stack keeps its secret."""
    return sign(secret, "operator", b"%d" % int(time.time() if now_s is None else now_s))


def check_operator_token(secret: bytes, token: str) -> None:
    """Raises SignatureRejected unless the token was made by `make_operator_token`."""
    verify(secret, "operator", token)


def _mac(secret: bytes, purpose: str, payload: bytes) -> bytes:
    """The secret has 64 bytes at most."""
    return hashlib.blake2b(purpose.encode() + b"|" + payload, key=secret, digest_size=_MAC_BYTES).digest()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    raw = text.encode("ascii")
    return base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
