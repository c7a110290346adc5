"""Writes a commented scenario to start from."""

from __future__ import annotations

import re
from pathlib import Path

from harness.core.errors import UnavailableError, UsageError
from harness.run.scenario_file import scenario_paths

STARTER = Path(__file__).with_name("starter.toml")
_PLACEHOLDER = "@NAME@"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_NAME = 60


def starter_text(name: str) -> str:
    """The file's content. Raises UsageError when scenarios cannot be called that."""
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise UsageError(
            f"NAME: must be lower-case words with hyphens, such as cache-kill, "
            f"of {LONGEST_NAME} letters at most, got {name!r}"
        )
    if name in scenario_paths():
        raise UsageError(f"NAME: feedstorm has a scenario {name!r} already; choose another name")
    return STARTER.read_text(encoding="utf-8").replace(_PLACEHOLDER, name)


def write_starter(name: str, folder: Path) -> Path:
    """Write NAME.toml in the folder. Raises UsageError, also where there is such a file; UnavailableError."""
    text, path = starter_text(name), folder / f"{name}.toml"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UsageError(f"{path}: is there already; nothing was written") from error
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be written: {error.strerror}") from error
    return path
