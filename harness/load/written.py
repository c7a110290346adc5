"""The posts of this process that the target acknowledged: what later ops delete, hide, answer, like, repeat. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from harness.core.op import Op


@dataclass(frozen=True, slots=True)
class WrittenPost:
    """One acknowledged post."""

    id: str
    author: int
    region: str
    """where it was acknowledged"""
    key: str
    """its idempotency key"""
    acked_ns: int


class WrittenPosts:
    """Acknowledged posts, by number of their arrival and by id."""

    def __init__(self, touched: Collection[int] = ()) -> None:
        """`touched`: numbers of the POST arrivals whose posts will be deleted, hidden or moderated."""
        self._touched = frozenset(touched)
        self._by_number: dict[int, WrittenPost] = {}
        self._lasting: set[str] = set()

    def add(self, op: Op, number: int | None) -> None:
        """Remember the post of an op that is ok; `number` of its POST arrival, None for posts of other kinds."""
        if number is not None:
            self._by_number[number] = WrittenPost(op.post, op.user, op.region, op.idempotency_key, op.done_ns)
        if number not in self._touched:
            self._lasting.add(op.post)

    def of(self, number: int) -> WrittenPost | None:
        """The post of a POST arrival; None while it is not acknowledged."""
        return self._by_number.get(number)

    def lasts(self, post_id: str) -> bool:
        """Whether it is one of ours that no op of the plan takes out of sight."""
        return post_id in self._lasting
