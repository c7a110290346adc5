"""What can go wrong with the post queue, and what each failure says about the effect.

QueueUnavailable   no usable answer; `definite` tells whether the command certainly had no effect
Backpressure       refused because a stream is full: certainly no effect
"""

from __future__ import annotations


class QueueUnavailable(ConnectionError):
    """redis-queue gave no usable answer."""

    def __init__(self, detail: str, *, definite: bool) -> None:
        super().__init__(detail)
        self.definite = definite
        """True: nothing was sent or it was refused, so nothing happened. False: the effect is unknown."""


class Backpressure(Exception):
    """A stream has reached its length limit; nothing was written."""
