"""Whether a lane's owner stands by what a cache node holds. For readers.

A node that was paused may go on with timelines that the owner gave up long ago, before the owner can tell it. Its
readers have lost their connections by then, as they try them more often than an owner gives up a silent node. So a
generation that is found there counts once the owner has stood by it while the reader's connection was open.

One question a lane and node is under way at a time, and it may take long: an owner that is slow must not be asked more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

ANSWER_LIMIT_S = 2.0


class LaneNode(NamedTuple):
    """Where timelines share a generation."""

    lane: int
    node: int


class Vouching:
    """What owners have said of their generations."""

    def __init__(self, owners: Sequence[RpcClient], patience_s: float) -> None:
        """`owners`: by lane; `patience_s`: a reader waits so long for an answer."""
        self._owners, self._patience_s = owners, patience_s
        self._said: dict[LaneNode, tuple[int, int]] = {}
        """place -> the reader's connection, and the generation told while it was open"""
        self._questions: dict[LaneNode, asyncio.Task[int | None]] = {}

    async def stands(self, place: LaneNode, connection: int, gen: int, user: int) -> bool | None:
        """Whether the owner stands by the generation; None: it has not said so yet. `user`: anyone of the place."""
        if self._said.get(place) == (connection, gen):
            return True
        question = self._questions.get(place)
        if question is None:
            question = self._questions[place] = asyncio.ensure_future(self._ask(place, connection, user))
        await asyncio.wait([question], timeout=self._patience_s)
        told = question.result() if question.done() else None
        return None if told is None else told == gen

    def doubt(self, place: LaneNode) -> None:
        """Something happened to the node: what was said does not count any more."""
        self._said.pop(place, None)

    async def close(self) -> None:
        """Give up what is under way."""
        questions = list(self._questions.values())
        for question in questions:
            question.cancel()
        if questions:
            await asyncio.wait(questions)

    async def _ask(self, place: LaneNode, connection: int, user: int) -> int | None:
        try:
            told = int(await self._owners[place.lane].call("generation", user, timeout_s=ANSWER_LIMIT_S))
        except (RpcUnavailable, RpcTimeout, RpcError):
            return None
        finally:
            self._questions.pop(place, None)
        self._said[place] = connection, told
        return told
