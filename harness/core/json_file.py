"""Files of JSON that people read as well as programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec


def write_json(path: Path, value: Any) -> None:
    """Store a value, indented. Raises OSError."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))
