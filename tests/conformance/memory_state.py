"""State and rules of the in-memory feed (`memory_feed`): users, graph, posts, feeds pulled together, streams.

Tests subclass `Feed` to break one rule at a time.
"""

from __future__ import annotations

import asyncio
import base64
import bisect
import contextlib
import hashlib
import heapq
import hmac
import itertools
import json
import random
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

TOKEN_TTL_S = 86_400
OPERATOR_TOKEN = "whoever-runs-this"
LABELS = ("adult", "sensitive")


class Refused(Exception):
    """The request is answered by a problem document."""

    def __init__(self, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail


@dataclass(frozen=True)
class Post:
    """One post; `seq` is its place in the order of arrival, which is the same for everyone here."""

    id: str
    author: str
    created_at_us: int
    text: str
    reply_to: str | None
    seq: int
    labels: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[int, str]:
        return self.created_at_us, self.id

    def wire(self) -> dict[str, Any]:
        wire = {
            "id": self.id, "author": self.author, "created_at_us": self.created_at_us,
            "text": self.text, "reply_to": self.reply_to,
        }  # fmt: skip
        return wire | ({"labels": list(self.labels)} if self.labels else {})


@dataclass
class Switch:
    """A feature flag."""

    value: int
    default: int
    about: str
    at_run_time: bool = True

    def wire(self, name: str) -> dict[str, Any]:
        return {"name": name, **vars(self)}


class Feed:
    """State and rules."""

    def __init__(self, users: int) -> None:
        self.users = users
        self.secret = secrets.token_bytes(16)
        self.epoch = secrets.randbelow(1000)
        self.tokens: dict[str, tuple[str, int]] = {}
        self.joined: dict[str, str] = {}
        self.following: defaultdict[str, set[str]] = defaultdict(set)
        self.followers: defaultdict[str, set[str]] = defaultdict(set)
        self.blocks: set[tuple[str, str]] = set()
        self.posts: dict[str, Post] = {}
        self.by_author: defaultdict[str, list[Post]] = defaultdict(list)
        self.arrivals: list[Post] = []
        self.deleted: set[str] = set()
        self.hidden: set[str] = set()
        self.moderated: set[str] = set()
        self.profiles: defaultdict[str, dict[str, bool]] = defaultdict(lambda: {"minor": False, "safe_mode": False})
        self.switches = {
            "workers": Switch(1, 1, "processes that serve", at_run_time=False),
            "page_hint": Switch(20, 20, "entries a client is advised to ask for"),
            "trace_one_in": Switch(100, 100, "of so many posts one is followed through the logs"),
        }
        self.keys: dict[tuple[str, str], Post] = {}
        self.streams: defaultdict[str, set[asyncio.Queue[str]]] = defaultdict(set)

    # users
    def exists(self, user: str) -> bool:
        return user.isdecimal() and user.isascii() and str(int(user)) == user and int(user) < self.users

    def sign_up(self, identity: str) -> tuple[bool, str, int]:
        if not self.exists(identity):
            raise Refused("not-found", "no such identity")
        first = identity not in self.joined
        if first:
            self.joined[identity] = secrets.token_urlsafe(24)
            self.tokens[self.joined[identity]] = identity, int(time.time()) + TOKEN_TTL_S
        token = self.joined[identity]
        return first, token, self.tokens[token][1]

    def user_of(self, token: str) -> str:
        user, expires = self.tokens.get(token, ("", 0))
        if expires < time.time():
            raise Refused("unauthorized", "the token is not valid")
        return user

    def operator(self, token: str) -> None:
        if not hmac.compare_digest(token.encode(), OPERATOR_TOKEN.encode()):
            raise Refused("unauthorized", "the operator's token is required")

    def switch(self, name: str) -> Switch:
        if name not in self.switches:
            raise Refused("bad-request", f"no flag {name!r}")
        if not self.switches[name].at_run_time:
            raise Refused("conflict", f"{name} is read at start")
        return self.switches[name]

    # graph
    def other(self, user: str, other: str) -> str:
        if not self.exists(other):
            raise Refused("not-found", "no such user")
        if other == user:
            raise Refused("bad-request", "that is you")
        return other

    def follow(self, user: str, other: str) -> None:
        self.following[user].add(other)
        self.followers[other].add(user)

    def unfollow(self, user: str, other: str) -> None:
        self.following[user].discard(other)
        self.followers[other].discard(user)

    def block(self, user: str, other: str) -> None:
        self.blocks.add((user, other))

    def unblock(self, user: str, other: str) -> None:
        self.blocks.discard((user, other))

    # posts
    def accept(
        self, author: str, text: str, reply_to: str | None, key: str | None, labels: tuple[str, ...] = ()
    ) -> tuple[bool, Post]:
        if key is not None and (author, key) in self.keys:
            return False, self.keys[author, key]
        if reply_to is not None and not self.readable(reply_to):
            raise Refused("not-found", "no such post to reply to")
        own = self.by_author[author]
        ts = max(time.time_ns() // 1000, own[-1].created_at_us + 1 if own else 0)
        post = Post(f"p{secrets.token_hex(8)}", author, ts, text, reply_to, len(self.arrivals) + 1, labels)
        self.posts[post.id] = post
        own.append(post)
        self.arrivals.append(post)
        if key is not None:
            self.keys[author, key] = post
        self.notify(post)
        return True, post

    def delete(self, user: str, post_id: str) -> None:
        post = self.posts.get(post_id)
        if post is None:
            raise Refused("not-found", "no such post")
        if post.author != user:
            raise Refused("forbidden", "only its author may delete a post")
        self.deleted.add(post_id)

    def hide(self, user: str, post_id: str, *, hidden: bool) -> None:
        if post_id not in self.posts or post_id in self.deleted:
            raise Refused("not-found", "no such post")
        if self.posts[post_id].author != user:
            raise Refused("forbidden", "only its author may hide or show a post")
        if post_id in self.moderated:
            raise Refused("conflict", "the post is moderated")
        (self.hidden.add if hidden else self.hidden.discard)(post_id)

    def moderate(self, post_id: str, *, moderated: bool) -> None:
        if post_id not in self.posts or post_id in self.deleted:
            raise Refused("not-found", "no such post")
        (self.moderated.add if moderated else self.moderated.discard)(post_id)

    def readable(self, post_id: str) -> bool:
        gone = post_id in self.deleted or post_id in self.hidden or post_id in self.moderated
        return post_id in self.posts and not gone

    def visible(self, user: str, post: Post) -> bool:
        other = post.author
        if not self.readable(post.id) or (user, other) in self.blocks or (other, user) in self.blocks:
            return False
        return other == user or (other in self.following[user] and self.suits(user, post))

    def suits(self, user: str, post: Post) -> bool:
        profile = self.profiles[user]
        return not (
            (profile["minor"] and "adult" in post.labels) or (profile["safe_mode"] and "sensitive" in post.labels)
        )

    # feed
    def newest(self, user: str, before: tuple[int, str] | None) -> Iterator[Post]:
        """Visible posts older than the key, newest first."""
        lists = (self.newest_of(author, before) for author in self.following[user] | {user})
        merged = heapq.merge(*lists, key=lambda p: p.key, reverse=True)
        return (post for post in merged if self.visible(user, post))

    def newest_of(self, author: str, before: tuple[int, str] | None) -> Iterator[Post]:
        posts = self.by_author[author]
        end = len(posts) if before is None else bisect.bisect_left(posts, before, key=lambda p: p.key)
        return (posts[i] for i in range(end - 1, -1, -1))

    def page(self, user: str, limit: int, cursor: str | None, seen: set[str]) -> tuple[list[Post], str | None]:
        unseen = (p for p in self.newest(user, self.read_cursor(user, cursor)) if p.id not in seen)
        items = list(itertools.islice(unseen, limit + 1))
        more = len(items) > limit
        items = items[:limit]
        return items, self.make_cursor(user, items[-1]) if more else None

    def make_cursor(self, user: str, last: Post) -> str:
        payload = json.dumps([user, last.created_at_us, last.id]).encode()
        mac = hmac.digest(self.secret, payload, hashlib.sha256)[:12]
        return base64.urlsafe_b64encode(mac + payload).decode().rstrip("=")

    def read_cursor(self, user: str, cursor: str | None) -> tuple[int, str] | None:
        if cursor is None:
            return None
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise Refused("bad-cursor", "malformed") from None
        if not hmac.compare_digest(raw[:12], hmac.digest(self.secret, raw[12:], hashlib.sha256)[:12]):
            raise Refused("bad-cursor", "not issued here")
        owner, ts, post_id = json.loads(raw[12:])
        if owner != user:
            raise Refused("bad-cursor", "issued to someone else")
        return ts, post_id

    def arrived_after(self, user: str, seq: int) -> list[Post]:
        return [p for p in self.arrivals[seq:] if self.visible(user, p)]

    def new(self, user: str, since: str, limit: int) -> tuple[list[Post], bool]:
        anchor = self.posts.get(since)
        if anchor is None:
            raise Refused("gone", "since is unknown")
        arrived = self.arrived_after(user, anchor.seq)
        return sorted(arrived[-limit:], key=lambda p: p.key, reverse=True), len(arrived) <= limit

    # stream
    def token(self, seq: int) -> str:
        return f"memory.{self.epoch}.{seq}"

    def seq_of(self, token: str) -> int | None:
        """The arrival a resume token stands for; None when it is not one of ours."""
        name, _, seq = token.rpartition(".")
        if name != f"memory.{self.epoch}" or not (seq.isascii() and seq.isdecimal()) or int(seq) > len(self.arrivals):
            return None
        return int(seq)

    def event(self, post: Post) -> str:
        data = json.dumps({"type": "new_post", "id": post.id}, separators=(",", ":"))
        return f"id: {self.token(post.seq)}\nevent: new_post\ndata: {data}\n\n"

    def opening(self, user: str, last_event_id: str) -> str:
        """What a new stream begins with; nothing may be accepted before the stream is subscribed."""
        head = len(self.arrivals)
        since = self.seq_of(last_event_id) if last_event_id else head
        text = f"retry: {random.randint(1000, 3000)}\nid: {self.token(head if since is None else since)}\n\n"
        if since is None:
            return text + f'id: {self.token(head)}\nevent: resync\ndata: {{"type":"resync"}}\n\n'
        return text + "".join(self.event(p) for p in self.arrived_after(user, since))

    def notify(self, post: Post) -> None:
        for user in (self.followers[post.author] | {post.author}) & self.streams.keys():
            if self.visible(user, post):
                for queue in self.streams[user]:
                    queue.put_nowait(self.event(post))

    @contextlib.contextmanager
    def subscribed(self, user: str) -> Iterator[asyncio.Queue[str]]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self.streams[user].add(queue)
        try:
            yield queue
        finally:
            self.streams[user].discard(queue)
            if not self.streams[user]:
                del self.streams[user]
