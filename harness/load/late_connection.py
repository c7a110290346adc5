"""The connection of a listener that reads late: so many bytes a second, or nothing at all, while its owner says so."""

from __future__ import annotations

import asyncio

from harness.core.clock import now_ns
from harness.load.listener import Listener
from harness.load.stream_connection import StreamConnection, StreamOwner

RECEIVE_BYTES = 4096
"""what the kernel keeps for it: the rest waits at the server, who has to notice"""


class LateConnection(StreamConnection):
    """Whatever is not read stays with the kernel, and when that is full, with the server."""

    __slots__ = ("_waits",)

    def __init__(self, owner: StreamOwner, listener: Listener, due_ns: int, sent_ns: int) -> None:
        super().__init__(owner, listener, due_ns, sent_ns)
        self._waits = False

    @property
    def reads(self) -> bool:
        """Not while it waits."""
        return not self._waits

    def data_received(self, data: bytes) -> None:
        """Take it, then read nothing for as long as so many bytes last."""
        super().data_received(data)
        self.keep_pace(len(data))

    def keep_pace(self, taken_bytes: int = 0) -> None:
        """Begin to wait, if the owner wants it by now. The stream is opened at full speed."""
        pace = self.owner.pace(self.listener)
        if pace is None or self.transport is None or not self.opened or not (taken_bytes or pace == 0):
            return
        self._waits = True
        self.transport.pause_reading()
        if pace:
            asyncio.get_running_loop().call_later(taken_bytes / pace, self.read_on)

    def read_on(self) -> None:
        """Read again; what was sent meanwhile comes now, or the news that the server has hung up."""
        if self._waits and self.transport is not None:
            self._waits = False
            self.heard_ns = now_ns()
            self.transport.resume_reading()
