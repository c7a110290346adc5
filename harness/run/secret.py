"""The secret that the machines of a run share: where it is kept, and how each side proves that it has it.

Nothing of the secret is sent. Both sides choose a nonce; each proves with HMAC-SHA256 over both nonces, its own role
and the certificate that the link is encrypted by (`harness.run.link_tls`): no proof serves twice, none serves the
other side, and none serves on another link. Proofs are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UsageError

SHORTEST = 16
"""characters of a secret"""
NONCE_BYTES = 32
MASTER, WORKER = "master", "worker"


def read_secret(path: Path) -> bytes:
    """The secret in a file that only its owner may read. Raises UsageError with the fix."""
    try:
        mode = path.stat().st_mode
        secret = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"--secret-file {path}: {error.strerror}; make one: {_recipe(path)}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"--secret-file {path}: others may read it; chmod 600 {path}")
    if len(secret) < SHORTEST:
        raise UsageError(f"--secret-file {path}: shorter than {SHORTEST} characters; make one: {_recipe(path)}")
    return secret


def _recipe(path: Path) -> str:
    return f"(umask 077; openssl rand -hex 32 > {path})"


def new_nonce() -> str:
    """A number that is used once."""
    return secrets.token_hex(NONCE_BYTES)


@dataclass(frozen=True)
class Conversation:
    """What both sides see alike when nobody is between them."""

    master_nonce: str
    worker_nonce: str
    certificate: str
    """fingerprint of the master's"""


def proof(secret: bytes, role: str, seen: Conversation) -> str:
    """What proves that `role` has the secret, in this conversation."""
    said = f"feedstorm {role} {seen.master_nonce} {seen.worker_nonce} {seen.certificate}".encode()
    return hmac.new(secret, said, hashlib.sha256).hexdigest()


def is_proven(secret: bytes, role: str, seen: Conversation, given: str) -> bool:
    """Whether a proof is right."""
    return hmac.compare_digest(proof(secret, role, seen).encode(), given.encode())
