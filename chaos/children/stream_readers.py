"""Opens streams and reads nothing from them but the first line's status; opens again what the server cuts.

The receive buffers are as small as the kernel makes them, so that what is not read waits at the server. The tokens come
on standard input and go nowhere but into requests.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from urllib.parse import urlsplit

from chaos.children.lease import begin, say_ready

RECEIVE_BUFFER_BYTES = 1024
OPEN_TIMEOUT_S = 5.0
STATUS_BYTES = len("HTTP/1.1 200")


def main() -> None:
    """See the module."""
    job = begin()
    requests = [_request(job["url"], token) for token in job["tokens"]]
    numbers = range(job["streams"])
    streams = {}
    poll = select.poll()
    for number in numbers:
        stream = _opened(job["url"], requests[number % len(requests)])
        streams[stream.fileno()] = (number, stream)
        poll.register(stream, select.POLLRDHUP)
    say_ready()
    waiting: list[tuple[float, int]] = []
    while True:
        for descriptor, _ in poll.poll(100 if waiting else None):
            number, stream = streams.pop(descriptor)
            poll.unregister(descriptor)
            stream.close()
            waiting.append((time.monotonic() + job["reconnect_s"], number))
        while waiting and waiting[0][0] <= time.monotonic():
            _, number = waiting.pop(0)
            try:
                stream = _opened(job["url"], requests[number % len(requests)])
            except (OSError, SystemExit):
                waiting.append((time.monotonic() + job["reconnect_s"], number))
                continue
            streams[stream.fileno()] = (number, stream)
            poll.register(stream, select.POLLRDHUP)


def _request(url: str, token: str) -> bytes:
    parts = urlsplit(url)
    head = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n"
    return f"{head}Authorization: Bearer {token}\r\n\r\n".encode()


def _opened(url: str, request: bytes) -> socket.socket:
    """A stream that has begun. Raises OSError; SystemExit with what the server answers instead."""
    parts = urlsplit(url)
    stream = socket.socket(socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET)
    try:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        stream.settimeout(OPEN_TIMEOUT_S)
        stream.connect((parts.hostname, parts.port or 80))
        stream.sendall(request)
        said = b""
        while len(said) < STATUS_BYTES and (more := stream.recv(STATUS_BYTES - len(said))):
            said += more
        if said.split()[1:] != [b"200"]:
            sys.exit(f"{url} answers {said.decode(errors='replace') or 'nothing'}")
    except BaseException:
        stream.close()
        raise
    return stream


if __name__ == "__main__":
    main()
