"""A proxy that keeps answers back: what the upstream sends is passed on when a buffer is full, or the upstream ends.

An upstream that is silent for `idle_s` is taken to be done: what is held is passed on, and the connection is cut. What
clients send goes through at once. Only what begins with this process's mark is no request: it is taken as an answer, so
that a witness can see the buffer at work whatever the upstream speaks.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from chaos.children.lease import begin, say_ready

READ_BYTES = 65_536
BACKLOG = 1024
CLOSE_TIMEOUT_S = 5.0


async def _serve(job: dict[str, Any]) -> None:
    host, _, port = job["upstream"].rpartition(":")
    own_host, _, own_port = job["listen"].rpartition(":")

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        sending = asyncio.create_task(_pass_on(reader, up_reader, up_writer))
        try:
            await _hold_back(up_reader, writer, job["buffer_bytes"], job["idle_s"])
        except OSError:
            pass  # either side broke off: so does the other
        finally:
            sending.cancel()
            up_writer.transport.abort()
            writer.close()

    server = await asyncio.start_server(client, own_host, int(own_port), backlog=BACKLOG)
    say_ready()
    await server.serve_forever()


async def _pass_on(reader: asyncio.StreamReader, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    is_probe: bool | None = None
    try:
        while data := await reader.read(READ_BYTES):
            if is_probe is None:
                is_probe = data.startswith(sys.argv[1].encode())
            if is_probe:
                answers.feed_data(data)
            else:
                writer.write(data)
                await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def _hold_back(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, buffer_bytes: int, idle_s: float
) -> None:
    held = bytearray()
    try:
        while data := await asyncio.wait_for(reader.read(READ_BYTES), idle_s):
            held += data
            if len(held) >= buffer_bytes:
                writer.write(bytes(held))
                held.clear()
                await writer.drain()
    except TimeoutError:
        pass  # idle
    writer.write(bytes(held))
    await asyncio.wait_for(writer.drain(), CLOSE_TIMEOUT_S)


def main() -> None:
    """See the module."""
    asyncio.run(_serve(begin()))


if __name__ == "__main__":
    main()
