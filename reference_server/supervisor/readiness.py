"""Asks a part whether it serves yet."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

ATTEMPT_S = 1.0


async def is_ready(probe: str) -> bool:
    """Whether whoever serves at the probe's address says that it is ready."""
    parts = urlsplit(probe)
    if parts.scheme == "unix":
        return await _answers_ping(parts.path)
    if parts.scheme == "http":
        request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
        head = await _exchange(parts.hostname, parts.port, request)
        return head.split(b" ")[1:2] == [b"200"]
    if parts.scheme == "redis":
        return (await _exchange(parts.hostname, parts.port, b"PING\r\n")).startswith(b"+PONG")
    return await _exchange(parts.hostname, parts.port, b"version\r\n") != b""


async def _answers_ping(path: str) -> bool:
    client = RpcClient(path, timeout_s=ATTEMPT_S)
    try:
        return bool(await client.call("ping") == "pong")
    except (RpcUnavailable, RpcTimeout, RpcError):
        return False
    finally:
        client.close()


async def _exchange(host: str | None, port: int | None, request: bytes) -> bytes:
    """First bytes of the answer to `request`; empty when there is none within a second."""
    try:
        async with asyncio.timeout(ATTEMPT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(request)
                return await reader.read(512)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""
