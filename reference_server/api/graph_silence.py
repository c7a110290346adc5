"""Whether the graph is silent: a process that is paused takes calls and answers none.

Whoever waits for it holds a slot for nothing. So after one call that was not answered in time the others fail at once,
and one question at a time finds out when it answers again. (A graph that is dead refuses, which costs no time.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

PROBE_TIMEOUT_S = 0.25


class GraphUnavailable(ConnectionError):
    """The graph service gave no usable answer."""


class GraphSilence:
    """Notices silence, and its end."""

    def __init__(self, client: RpcClient) -> None:
        self._client = client
        self._probing: asyncio.Task[None] | None = None

    @contextmanager
    def noticed(self, *, insists: bool = False) -> Iterator[None]:
        """Around calls of the graph. `insists`: they are made although it was silent.

        Raises GraphUnavailable: it is silent, or one of them failed.
        """
        if self._probing is not None and not insists:
            raise GraphUnavailable("it was silent a moment ago")
        try:
            yield
        except RpcTimeout as error:
            if self._probing is None:
                self._probing = asyncio.create_task(self._probe())
            raise GraphUnavailable(str(error)) from error
        except (RpcUnavailable, RpcError) as error:
            raise GraphUnavailable(str(error)) from error

    async def _probe(self) -> None:
        try:
            while not await self._answers():
                pass
        finally:
            self._probing = None

    async def _answers(self) -> bool:
        """Whether a call would not be waited for in vain now."""
        try:
            await self._client.call("ping", timeout_s=PROBE_TIMEOUT_S)
        except RpcTimeout:
            return False
        except (RpcUnavailable, RpcError):
            pass
        return True

    async def close(self) -> None:
        """Ask no more."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])
