"""What a request is, told from method and path alone: how much it matters, whether it writes, whether it has a body."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Priority(IntEnum):
    """Who gives way to whom: under pressure the highest number goes first."""

    ESSENTIAL = 0
    """posting and reading, joining, and what protects people (blocks, deletes, hiding)"""
    STANDARD = 1
    """what a client can do without for a while: profile, import state, follows, look-ups"""
    OPTIONAL = 2
    """what nobody misses for a minute: likes, federation, paths that do not exist"""


class Route(NamedTuple):
    """One kind of request."""

    number: int
    """0, 1, ...: place in the lists that are kept a route"""
    name: str
    priority: Priority
    writes: bool
    has_body: bool = False

    @property
    def lane(self) -> int:
        """The lane of the limiter: two a priority, reads and writes."""
        return 2 * self.priority + self.writes


_E, _S, _O = Priority
FEED = Route(0, "feed", _E, False)
SEEN = Route(1, "feed with seen", _E, False, True)
NEW = Route(2, "feed/new", _E, False)
POST = Route(3, "post", _E, True, True)
UNDO = Route(4, "delete, hide", _E, True)
SIGN_UP = Route(5, "sign-up", _E, True, True)
BLOCK = Route(6, "block", _E, True)
FOLLOW = Route(7, "follow", _S, True)
PROFILE = Route(8, "profile", _S, False)
SETTINGS = Route(9, "profile change", _S, True, True)
BATCH = Route(10, "batch", _S, False, True)
LIKE = Route(11, "like", _O, True)
OTHER = Route(12, "other", _O, False)
ROUTES = (FEED, SEEN, NEW, POST, UNDO, SIGN_UP, BLOCK, FOLLOW, PROFILE, SETTINGS, BATCH, LIKE, OTHER)

OPERATOR = "/v1/operator/"
UNLIMITED = frozenset({"/healthz", "/readyz", "/metrics"})
"""never refused, whatever happens"""

_FIXED = {
    "GET /v1/feed": FEED,
    "POST /v1/feed": SEEN,
    "GET /v1/feed/new": NEW,
    "POST /v1/posts": POST,
    "POST /v1/posts/batch": BATCH,
    "POST /v1/users": SIGN_UP,
    "GET /v1/users/me": PROFILE,
    "PATCH /v1/users/me": SETTINGS,
    "GET /v1/users/me/import": PROFILE,
}
_CHANGES = ("PUT", "DELETE")


def find_route(method: str, path: str) -> Route:
    """The kind of request; OTHER for what is nothing we know."""
    route = _FIXED.get(f"{method} {path}")
    if route is not None:
        return route
    if method in _CHANGES:
        if path.startswith("/v1/posts/"):
            return LIKE if path.endswith("/like") else UNDO
        if path.startswith("/v1/blocks/"):
            return BLOCK
        if path.startswith("/v1/follows/"):
            return FOLLOW
    return OTHER
