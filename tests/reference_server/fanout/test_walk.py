"""Walks share what is asked for: one that is given up takes nothing from the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest

from reference_server.fanout.pages import FollowerPage, FollowerPages
from reference_server.fanout.walk import Step, walk

NOBODY = np.zeros(0, np.uint32)
LAST = FollowerPage([0, 0], NOBODY, [0, 0], NOBODY, True, 7)


class SharedPages:
    """Pages whose one fetch at a time is shared by all who ask, and takes until it is let go on."""

    def __init__(self) -> None:
        self.answered = asyncio.Event()
        self.fetch = asyncio.ensure_future(self._fetch())

    async def _fetch(self) -> FollowerPage:
        await self.answered.wait()
        return LAST

    async def request_many(self, wanted: Sequence[tuple[int, int]]) -> list[asyncio.Future[FollowerPage]]:
        return [self.fetch for _ in wanted]


@pytest.mark.parametrize("asked_before", [False, True])
async def test_a_walk_that_is_given_up_leaves_the_page_to_the_others(asked_before: bool) -> None:
    shared = SharedPages()
    pages, first = cast(FollowerPages, shared), shared.fetch if asked_before else None
    given_up, other = (asyncio.ensure_future(anext(walk(pages, 1, first))) for _ in range(2))
    await asyncio.wait([given_up], timeout=0.05)
    given_up.cancel()
    await asyncio.wait([given_up])
    assert not shared.fetch.cancelled()
    shared.answered.set()
    assert await other == Step(0, LAST, True, 7)
