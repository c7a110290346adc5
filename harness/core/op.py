"""One operation of one client, with its outcome: a row of the history.

Every client (Locust users, stream engines, final reads) records the same row; unused fields
stay at their defaults. Times are `harness.core.clock` nanoseconds. Users are numbered by their
place in the population (0 .. users-1); posts by the opaque id the target gave them.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec


class OpKind(StrEnum):
    """What the client did, or saw."""

    SIGNUP = "signup"
    POST = "post"
    DELETE = "delete"
    FEED = "feed"
    """one page of a walk through the feed: `walk` and `page` tell which"""
    FEED_NEW = "feed_new"
    """a fetch of what arrived since `since`; items in `ids`"""
    FOLLOW = "follow"
    UNFOLLOW = "unfollow"
    BLOCK = "block"
    UNBLOCK = "unblock"
    LIKE = "like"
    HIDE = "hide"
    """its author hides `post` from everybody"""
    SHOW = "show"
    """its author shows it again"""
    MODERATE = "moderate"
    """an operator takes `post` out of sight, whatever its author wants"""
    LIFT = "lift"
    """an operator leaves it to its author again"""
    FETCH = "fetch"
    """a look-up of `post` by its id: found when `ids` holds it"""
    PROBE = "probe"
    """a feed page asked for with a `cursor` that `variant` names: "tampered", "foreign" (another user's), "expired",
    "other_node" (our own, at another region); items in `ids`"""
    IMPORT = "import"
    """done_ns is when the import was first seen finished"""
    STREAM_OPEN = "stream_open"
    """ok: response headers and the head token arrived; `token` = head, `since` = Last-Event-ID sent"""
    STREAM_END = "stream_end"
    """the stream ended at done_ns; `error` says why (closed-by-us, eof, reset, ...)"""
    EVENT = "event"
    """a new_post event: `post`, `token`"""
    RESYNC = "resync"
    """the server told the listener that it cannot fill a gap"""


OP_METRICS = {
    "post": "post_accept",
    "feed": "feed_read",
    "feed_new": "feed_new",
    "signup": "signup",
    "import": "import",
    "stream_open": "stream_open",
    "delete": "delete",
    "follow": "edge_change",
    "unfollow": "edge_change",
    "block": "edge_change",
    "unblock": "edge_change",
    "like": "like",
    "hide": "hide",
    "show": "hide",
    "moderate": "moderate",
    "lift": "moderate",
    "fetch": "lookup",
}
"""kind of op -> the metric of its latency and failures; a probe has none: to be refused is what it wants"""


class OpOutcome(StrEnum):
    """What is known of the effect."""

    OK = "ok"
    FAIL = "fail"
    """certainly did not happen (4xx, 429, 503, connection refused)"""
    INFO = "info"
    """unknown: it may have happened or not (time-out, reset after sending, other 5xx)"""


class Op(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One row of the history.

    `session` is one client's line of sequential ops (never two at once); `walk` numbers one walk
    through the pages of a feed within its session, `page` counts from 0; `final` marks the reads made after
    the drain. `ids` and the `item_*` lists describe the items of a read in page order.
    """

    id: int
    kind: OpKind
    session: str
    user: int
    region: str
    due_ns: int
    sent_ns: int
    done_ns: int
    outcome: OpOutcome
    status: int = 0
    post: str = ""
    """post written, deleted, liked, or announced by an event"""
    author: int = -1
    """author of `post`, where known; the other user of a follow, unfollow or block"""
    ts_us: int = 0
    """display timestamp the target gave to `post`"""
    text_hash: int = 0
    """`text_hash()` of the text of `post`"""
    reply_to: str = ""
    idempotency_key: str = ""
    walk: int = 0
    page: int = 0
    limit: int = 0
    cursor: str = ""
    """cursor sent; empty on a first page"""
    next_cursor: str = ""
    """cursor received; empty = the walk is complete"""
    since: str = ""
    token: str = ""
    variant: str = ""
    """which form of its kind the op is; see the kinds"""
    degraded: str = ""
    """value of Feed-Degraded, if any"""
    final: bool = False
    celebrity: bool = False
    """a post of the celebrity load"""
    error: str = ""
    ids: list[str] = msgspec.field(default_factory=list)
    item_ts_us: list[int] = msgspec.field(default_factory=list)
    item_authors: list[int] = msgspec.field(default_factory=list)
    item_hashes: list[int] = msgspec.field(default_factory=list)


def text_hash(text: str) -> int:
    """A 63-bit hash of a post's text, equal in every process (the builtin `hash` is not)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def user_number(user_id: str) -> int:
    """The population number behind a user's id; -1 for an id that is none of ours."""
    return int(user_id) if user_id.isdecimal() else -1
