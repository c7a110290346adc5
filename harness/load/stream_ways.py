"""How each listener of an engine gets to its region: to which server, from which address, over which connection."""

from __future__ import annotations

import socket

from harness.core.listening import LATE_READERS, Habit
from harness.load.late_connection import RECEIVE_BYTES, LateConnection
from harness.load.listener import Listener
from harness.load.plan import LoadPlan
from harness.load.stream_connection import StreamConnection, StreamOwner
from harness.load.stream_endpoint import (
    StreamEndpoint,
    begin_connecting,
    edge_endpoints,
    plain_endpoints,
    scattered,
)

STREAMS_PER_SOURCE = 10_000
"""streams from one 127.x address: a port range holds about 28,000, and reconnections leave ports waiting"""


class StreamWays:
    """Of the listeners of one engine."""

    def __init__(self, plan: LoadPlan, source_net: int) -> None:
        """`source_net` keeps the addresses of engines apart. Raises UsageError."""
        self.habits = {user: plan.habits[user] for user, _ in plan.listeners if user in plan.habits}
        self._plain = plain_endpoints(plan.regions)
        over_http2 = Habit.HTTP2 in self.habits.values()
        self._edges = edge_endpoints(plan.regions, plan.ca_file) if over_http2 else {}
        self._net = source_net % 250 + 1
        self._sources = 1 + len(plan.listeners) // STREAMS_PER_SOURCE

    def habit(self, listener: Listener) -> Habit | None:
        """What the listener does differently."""
        return self.habits.get(listener.user)

    def endpoint(self, listener: Listener) -> StreamEndpoint:
        """Where its streams are."""
        return (self._edges if self.habit(listener) is Habit.HTTP2 else self._plain)[listener.region]

    def host_header(self, listener: Listener) -> str:
        """The name of the server that it is with, as requests say it."""
        endpoint = self.endpoint(listener)
        return endpoint.host_headers[endpoint.place(listener.user, listener.failures)]

    def begin(self, listener: Listener) -> socket.socket:
        """A socket on its way there. Raises OSError when this machine refuses at once."""
        endpoint = self.endpoint(listener)
        place = endpoint.place(listener.user, listener.failures)
        source = f"127.0.{self._net}.{1 + (scattered(listener.user) >> 16) % self._sources}"
        little = RECEIVE_BYTES if self.habit(listener) in LATE_READERS else 0
        return begin_connecting(endpoint, place, source, little)

    def connection(self, owner: StreamOwner, listener: Listener, due_ns: int, sent_ns: int) -> StreamConnection:
        """What takes the socket over."""
        habit = self.habit(listener)
        if habit is Habit.HTTP2:
            from harness.load.http2_connection import Http2Connection  # 5 MB that other engines save

            return Http2Connection(owner, listener, due_ns, sent_ns)
        kind = LateConnection if habit in LATE_READERS else StreamConnection
        return kind(owner, listener, due_ns, sent_ns)
