"""The answers of the Feed API as typed data, written from openapi.yaml."""

from __future__ import annotations

import msgspec


class ImportState(msgspec.Struct, frozen=True):
    """How far the import of inherited follows is: "pending", "running" or "done"."""

    state: str
    done: int
    total: int


class UserRef(msgspec.Struct, frozen=True):
    """A user, by id."""

    id: str


class SignUp(msgspec.Struct, frozen=True):
    """Answer of a sign-up."""

    user: UserRef
    token: str
    expires_at: int
    """Unix seconds"""
    imports: ImportState = msgspec.field(name="import")


class Me(msgspec.Struct, frozen=True):
    """The caller's profile."""

    id: str
    followers: int
    following: int
    joined: bool
    minor: bool = False
    safe_mode: bool = False


class Post(msgspec.Struct, frozen=True, omit_defaults=True):
    """One post."""

    id: str
    author: str
    created_at_us: int
    text: str
    reply_to: str | None
    labels: list[str] = []

    @property
    def key(self) -> tuple[int, str]:
        """What feeds are ordered by, descending."""
        return self.created_at_us, self.id


class PostAnswer(msgspec.Struct, frozen=True):
    """Answer of a write."""

    post: Post


class Posts(msgspec.Struct, frozen=True):
    """Answer of a look-up by ids."""

    posts: list[Post]


class Page(msgspec.Struct, frozen=True):
    """One page of a feed, newest first; no cursor on the last."""

    items: list[Post]
    next_cursor: str | None


class NewItems(msgspec.Struct, frozen=True):
    """What arrived since a post; `complete` is false when there was more than the limit."""

    items: list[Post]
    complete: bool


class Flag(msgspec.Struct, frozen=True):
    """One feature flag of a target."""

    name: str
    value: bool | int | float | str
    default: bool | int | float | str
    about: str
    at_run_time: bool
    """False: it is read when the target starts"""


class FlagList(msgspec.Struct, frozen=True):
    """All feature flags of a target."""

    flags: list[Flag]


class Health(msgspec.Struct, frozen=True):
    """Answer of /healthz and /readyz."""

    status: str


class Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
