"""The connection of a listener over HTTP/2: one user's, so with one stream. TLS is done by its transport."""

from __future__ import annotations

import asyncio
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from harness.contract.sse_parser import TooLong
from harness.core.clock import now_ns
from harness.load.listener import Listener
from harness.load.stream_connection import StreamConnection, StreamOwner
from harness.load.stream_response import BadResponse, ResponseHead, StreamRequest

_STREAM_ID = 1


class Http2Connection(StreamConnection):
    """As StreamConnection, with frames around the bytes."""

    __slots__ = ("_frames",)

    def __init__(self, owner: StreamOwner, listener: Listener, due_ns: int, sent_ns: int) -> None:
        super().__init__(owner, listener, due_ns, sent_ns)
        self._frames = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self.transport, self.made = cast(asyncio.Transport, transport), True
        request = self.owner.connected(self)
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
            self.close("protocol: the edge speaks no HTTP/2")
            return
        self._frames.initiate_connection()
        self._frames.send_headers(_STREAM_ID, _headers(request), end_stream=True)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take frames apart; answer what the protocol wants answered."""
        self.heard_ns = now_ns()
        try:
            for event in self._frames.receive_data(data):
                self._take(event)
        except (ProtocolError, BadResponse, TooLong) as error:
            self.close(f"protocol: {error}")
        self._send()

    def _take(self, event: Event) -> None:
        match event:
            case ResponseReceived(headers=headers):
                named = {str(name): str(value) for name, value in headers or ()}
                self._accept(ResponseHead(int(named.get(":status", "0")), named))
            case DataReceived(data=data, flow_controlled_length=length):
                self._frames.acknowledge_received_data(length or 0, _STREAM_ID)
                if self.parser is not None and data:
                    self._body(bytes(data))
            case StreamEnded():
                self.close("eof")
            case StreamReset(error_code=code):
                self.close(f"reset: http2 error {code}")
            case ConnectionTerminated(error_code=code):
                self.close(f"goaway: http2 error {code}")

    def _send(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(self._frames.data_to_send())


def _headers(request: StreamRequest) -> list[tuple[str, str]]:
    target = [(":method", "GET"), (":scheme", "https"), (":authority", request.host), (":path", request.path)]
    return [*target, *request.headers]
