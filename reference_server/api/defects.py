"""Planted defects of feed pages: wrong on purpose, off by default (settings.DEFECTS). They prove that a judge bites."""

from __future__ import annotations

import msgspec

from reference_server.api.bodies import WirePost
from reference_server.api.cursors import Key
from reference_server.api.feed_page import Item, Page
from reference_server.api.post_ids import new_post_id, to_text
from reference_server.settings import Settings

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
        if not self._on or len(page.items) < 2:
            return
        self._pages += 1
        items = page.items
        middle = len(items) // 2
        if "duplicate-entry" in self._on and self._pages % _DUPLICATE_EVERY == 0:
            items.insert(middle, items[middle])
        if "phantom-post" in self._on and self._pages % _PHANTOM_EVERY == 0:
            items.insert(middle, _phantom(items[middle]))
        if "unordered-page" in self._on and self._pages % _UNORDERED_EVERY == 0:
            items[0], items[1] = items[1], items[0]
        if "cursor-skip" in self._on and page.more is not None:
            page.cursor = page.more.key


def _phantom(before: Item) -> Item:
    key = Key(before.key.ts_us + 1, new_post_id(before.key.ts_us))
    author = msgspec.json.decode(before.body, type=WirePost).author
    post = WirePost(to_text(key.id), author, key.ts_us, "nobody wrote this", None)
    return Item(key, msgspec.json.encode(post))
