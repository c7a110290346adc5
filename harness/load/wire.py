"""What load clients read of the target's answers, and which outcome an exchange had. The contract is docs/contract.md.

Leaner than `harness.contract.client`: only the fields that are recorded are decoded, and a post that was seen before,
in the same bytes, is not decoded again: most of a page was on the page before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from harness.core.op import Op, OpOutcome, text_hash, user_number

SERVICE_UNAVAILABLE = 503
IMPORT_DONE = "done"
REMEMBERED_ITEMS = 20_000
"""posts a process knows by the bytes they came in, some 20 MB"""


class Item(msgspec.Struct, frozen=True, gc=False):
    """One post in an answer."""

    id: str
    author: str
    created_at_us: int
    text: str
    reply_to: str | None = None


class SeenPost(msgspec.Struct, gc=False):
    """A post with what the history says of it; worked out once, as posts are seen again and again."""

    id: str
    author: str
    created_at_us: int
    text: str
    reply_to: str | None
    author_number: int
    text_hash: int
    mark: int = 0
    """see `harness.record.history.Shown`"""


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


class Page(msgspec.Struct, frozen=True):
    """A page of a feed as `decode_page` reads it."""

    items: list[SeenPost]
    next_cursor: str | None = None


class _RawPage(msgspec.Struct, frozen=True):
    """A page whose items are not looked into."""

    items: list[msgspec.Raw]
    next_cursor: str | None = None


_known: dict[bytes, SeenPost] = {}
_raw_page = msgspec.json.Decoder(_RawPage).decode
_item = msgspec.json.Decoder(Item).decode


def decode_page(content: bytes) -> Page:
    """A page of a feed; equal bytes of a post give the same object. Raises msgspec.DecodeError."""
    page = _raw_page(content)
    known = _known
    items = [known.get(row) or _new_item(row) for row in map(bytes, page.items)]
    return Page(items, page.next_cursor)


def _new_item(row: bytes) -> SeenPost:
    if len(_known) >= REMEMBERED_ITEMS:
        _known.clear()
    post = _known[row] = seen(_item(row))
    return post


def seen(post: Item) -> SeenPost:
    """The post as the history knows it."""
    numbers = (user_number(post.author), text_hash(post.text))
    return SeenPost(post.id, post.author, post.created_at_us, post.text, post.reply_to, *numbers)


_DECODERS: dict[type, Callable[[bytes], Any]] = {
    PageAnswer: decode_page,
    **{kind: msgspec.json.Decoder(kind).decode for kind in (PostAnswer, PostsAnswer, ImportAnswer, SignUpAnswer)},
}


def decode(content: bytes, kind: type[Any]) -> Any:
    """An answer of one of the kinds above. Raises msgspec.DecodeError."""
    return _DECODERS[kind](content)


def outcome_of_status(status: int) -> OpOutcome:
    """What a status says of the effect: 2xx ok; 3xx, 4xx, 429, 503 no effect; any other 5xx unknown."""
    if 200 <= status < 300:
        return OpOutcome.OK
    return OpOutcome.FAIL if status < 500 or status == SERVICE_UNAVAILABLE else OpOutcome.INFO


def outcome_of_error(error: BaseException) -> OpOutcome:
    """What a transport error says: a refused connection carried nothing; after anything else the effect is unknown."""
    return OpOutcome.FAIL if isinstance(error, ConnectionRefusedError) else OpOutcome.INFO


def fill_items(op: Op, items: list[SeenPost]) -> None:
    """Record the items of a read, in page order."""
    op.ids = [item.id for item in items]
    op.item_ts_us = [item.created_at_us for item in items]
    op.item_authors = [item.author_number for item in items]
    op.item_hashes = [item.text_hash for item in items]
