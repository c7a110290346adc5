"""What one of several stream engines needs of a plan, read without ever holding the rest.

All listeners of a large plan and their tokens take more memory, while they are read, than the streams of an engine.
What is our own lies scattered among them, so that it would not be given back either.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import msgspec

from harness.core.errors import UsageError
from harness.load.plan import LoadPlan, Member

_TEXT = rb'"((?:[^"\\]|\\.)*)"'
_MEMBER = re.compile(rb"\[(\d+)," + _TEXT + rb"\]")
_TOKEN = re.compile(rb'"(\d+)":' + _TEXT)


class _UnreadListeners(LoadPlan, kw_only=True, frozen=True):
    """The plan, with its listeners still as text."""

    listeners: msgspec.Raw = msgspec.Raw(b"[]")  # type: ignore[assignment]


def read_own_plan(path: Path, index: int, count: int) -> LoadPlan:
    """The plan stored at `path`, with every `count`-th listener from number `index` on. Raises UsageError."""
    try:
        plan = msgspec.json.decode(_mapped(path), type=_UnreadListeners)
        listeners = _own_members(memoryview(plan.listeners), index, count)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise UsageError(f"{path}: not a load plan: {error}") from error
    users = {user for user, _ in listeners}
    fields = {name: getattr(plan, name) for name in LoadPlan.__struct_fields__}
    habits = {user: habit for user, habit in plan.habits.items() if user in users}
    return LoadPlan(**{**fields, "listeners": listeners, "habits": habits})


def _own_members(text: memoryview, index: int, count: int) -> tuple[Member, ...]:
    own: list[Member] = []
    regions: dict[bytes, str] = {}
    place, read = -1, len(b"[]")
    for place, found in enumerate(_MEMBER.finditer(text)):
        read += found.end() - found.start()
        if place % count == index:
            own.append((int(found[1]), regions.setdefault(found[2], _text(found[2]))))
    if read + max(0, place) != len(text):
        raise ValueError("listeners must be [[user, region], ...]")
    return tuple(own)


def read_own_tokens(plan: LoadPlan) -> dict[int, str]:
    """User -> token of the plan's listeners. Empty when the plan names no tokens file."""
    own = {user: user for user, _ in plan.listeners}
    if not plan.tokens or not own:
        return {}
    found = ((int(pair[1]), pair[2]) for pair in _TOKEN.finditer(_mapped(Path(plan.tokens))))
    return {own[user]: _text(token) for user, token in found if user in own}


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _text(inner: bytes) -> str:
    """The text between two quotes of JSON."""
    return msgspec.json.decode(b'"%b"' % inner, type=str)
