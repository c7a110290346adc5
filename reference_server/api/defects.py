"""Planted defects of feed pages: wrong on purpose, off by default (settings.DEFECTS). They prove that a judge bites."""

from __future__ import annotations

import msgspec

from reference_server.api.bodies import WirePost
from reference_server.api.feed_page import Page
from reference_server.api.post_ids import new_post_id, to_text
from reference_server.settings import Settings
from reference_server.timeline.display import Key

_DUPLICATE_EVERY = 20
_PHANTOM_EVERY = 20
_UNORDERED_EVERY = 10


class PageDefects:
    """Spoils pages as told; counts pages that have at least two items."""

    def __init__(self, settings: Settings) -> None:
        names = ("duplicate-entry", "phantom-post", "unordered-page", "cursor-skip")
        self._on = {name for name in names if settings.has_defect(name)}
        self._pages = 0

    def spoil(self, page: Page) -> None:
        """Change the page in place."""
        if not self._on or len(page.keys) < 2:
            return
        self._pages += 1
        keys, bodies = page.keys, page.bodies
        middle = len(keys) // 2
        if "duplicate-entry" in self._on and self._pages % _DUPLICATE_EVERY == 0:
            keys.insert(middle, keys[middle])
            bodies.insert(middle, bodies[middle])
        if "phantom-post" in self._on and self._pages % _PHANTOM_EVERY == 0:
            key, body = _phantom(keys[middle], bodies[middle])
            keys.insert(middle, key)
            bodies.insert(middle, body)
        if "unordered-page" in self._on and self._pages % _UNORDERED_EVERY == 0:
            keys[0], keys[1] = keys[1], keys[0]
            bodies[0], bodies[1] = bodies[1], bodies[0]
        if "cursor-skip" in self._on and page.more is not None:
            page.cursor = page.more


def _phantom(key: Key, body: bytes) -> tuple[Key, bytes]:
    """A post that stands right before `key` and claims its author."""
    ts_us, post_id = key[0] + 1, new_post_id(key[0])
    author = msgspec.json.decode(body, type=WirePost).author
    post = WirePost(to_text(post_id), author, ts_us, "nobody wrote this", None)
    return (ts_us, post_id), msgspec.json.encode(post)
