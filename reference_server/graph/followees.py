"""Walks through the pages of those whom a user follows, for whoever needs them all."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from reference_server.rpc import RpcClient

Users = npt.NDArray[np.uint32]


async def all_followees(graph: RpcClient, user: int, limit_s: float) -> Users:
    """Whom the user follows, ascending; `limit_s` for all pages together.

    Raises RpcUnavailable, RpcTimeout, RpcError.
    """
    pages: list[bytes] = []
    start: int | None = 0
    until_s = time.monotonic() + limit_s
    while start is not None:
        left_s = max(0.0, until_s - time.monotonic())
        page, start = await graph.call("followees", user, start, timeout_s=left_s)
        pages.append(page)
    return np.frombuffer(b"".join(pages), "<u4")
