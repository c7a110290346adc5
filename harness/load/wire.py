"""What load clients read of the target's answers, and which outcome an exchange had. The contract is docs/contract.md.

Leaner than `harness.contract.client`: only the fields that are recorded are decoded.
"""

from __future__ import annotations

import msgspec

from harness.core.op import Op, OpOutcome, text_hash, user_number

SERVICE_UNAVAILABLE = 503
IMPORT_DONE = "done"


class Item(msgspec.Struct, frozen=True):
    """One post in an answer."""

    id: str
    author: str
    created_at_us: int
    text: str
    reply_to: str | None = None


class PageAnswer(msgspec.Struct, frozen=True):
    """Answer of GET /v1/feed."""

    items: list[Item]
    next_cursor: str | None = None


class PostAnswer(msgspec.Struct, frozen=True):
    """Answer of POST /v1/posts."""

    post: Item


class PostsAnswer(msgspec.Struct, frozen=True):
    """Answer of POST /v1/posts/batch."""

    posts: list[Item]


class ImportAnswer(msgspec.Struct, frozen=True):
    """Answer of GET /v1/users/me/import, and part of a sign-up's."""

    state: str


class SignUpAnswer(msgspec.Struct, frozen=True):
    """Answer of POST /v1/users."""

    token: str
    imports: ImportAnswer = msgspec.field(name="import")


def outcome_of_status(status: int) -> OpOutcome:
    """What a status says of the effect: 2xx ok; 3xx, 4xx, 429, 503 no effect; any other 5xx unknown."""
    if 200 <= status < 300:
        return OpOutcome.OK
    return OpOutcome.FAIL if status < 500 or status == SERVICE_UNAVAILABLE else OpOutcome.INFO


def outcome_of_error(error: BaseException) -> OpOutcome:
    """What a transport error says: a refused connection carried nothing; after anything else the effect is unknown."""
    return OpOutcome.FAIL if isinstance(error, ConnectionRefusedError) else OpOutcome.INFO


def fill_items(op: Op, items: list[Item]) -> None:
    """Record the items of a read, in page order."""
    op.ids = [item.id for item in items]
    op.item_ts_us = [item.created_at_us for item in items]
    op.item_authors = [user_number(item.author) for item in items]
    op.item_hashes = [text_hash(item.text) for item in items]
