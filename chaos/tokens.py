"""Users that a fault acts as: their bearer tokens, one a line, in a file that only its owner may read."""

from __future__ import annotations

from pathlib import Path

from chaos.kind import FaultError


def read_tokens(path: str) -> list[str]:
    """All of them, at least one. Raises FaultError."""
    try:
        tokens = Path(path).read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise FaultError(f"{path}: no tokens can be read: {error}") from error
    if not tokens:
        raise FaultError(f"{path}: holds no token")
    return tokens
