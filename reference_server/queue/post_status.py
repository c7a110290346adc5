"""What redis-queue knows about a post beside its text: whether it may show, who said so, and when.

Key status:{post id hex}: "{hybrid clock, 20 digits}:{status}:{hidden}"; `hidden` is "1" while the author wants it
hidden, also under a moderation: lifting that gives back what the author chose.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from reference_server.events import PostEvent
from reference_server.timeline.entry import Status


class Gone(NamedTuple):
    """A post that must not show."""

    author: int
    """-1: not known here"""
    status: Status
    """HIDDEN_BY_AUTHOR, MODERATED: may show again; DELETED: never"""


class Standing(NamedTuple):
    """Where a post stands by what is still in redis-queue."""

    event: PostEvent | None
    """None: it is archived, deleted, or never was"""
    status: Status | None = None
    """None: not known here, ask the durable store"""
    hlc: int = 0
    """clock of the status"""
    hidden: bool = False
    """whether its author wants it hidden"""


class StatusAnswer(NamedTuple):
    """What came of a change of status."""

    outcome: Literal["done", "deleted", "refused", "late"]
    """refused: the post is moderated and its author asked; late: a later change is known"""
    hlc: int = 0
    """late: the clock to be above"""


def read_status(value: bytes) -> tuple[int, Status, bool]:
    """(clock, status, hidden) of a key's value."""
    clock, status, hidden = value.split(b":")
    return int(clock), Status(int(status)), hidden == b"1"
