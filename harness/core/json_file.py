"""Files of JSON that people read as well as programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.core.errors import UsageError

T = TypeVar("T")


def write_json(path: Path, value: Any) -> None:
    """Store a value, indented. Raises OSError."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1))


def read_json(path: Path, kind: type[T]) -> T:
    """The value in a file. Raises UsageError when it is missing or holds something else, OSError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise UsageError(f"{path}: is missing") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: damaged: {error}") from error


def read_json_lines(path: Path, kind: type[T], *, may_be_torn: bool = True) -> list[T]:
    """The values in a file that has one a line; none when there is no file.

    `may_be_torn`: it grows line by line, so a last line that was not finished is dropped. Raises UsageError when any
    other line holds something else, OSError.
    """
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    decoder = msgspec.json.Decoder(kind)
    rows: list[T] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows += [decoder.decode(line)] if line.strip() else []
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if number < len(lines) or not may_be_torn:
                raise UsageError(f"{path}: line {number}: damaged: {error}") from error
    return rows
