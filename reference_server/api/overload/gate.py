"""The gate before the application, as ASGI middleware. It must cost next to nothing, above all when it refuses.

    kill switch -> operator passes -> rates -> level -> body -> slot -> application
Nothing is refused once the application has begun, so 429 and 503 from here had no effect.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.applications import Starlette

from reference_server.api.overload import refusals
from reference_server.api.overload.body import Message, Receive
from reference_server.api.overload.callers import STRANGER
from reference_server.api.overload.overload_measures import WAIT_SECONDS
from reference_server.api.overload.refusals import Refusal
from reference_server.api.overload.routes import FEED, OPERATOR, SIGN_UP, UNLIMITED, Priority, Route, find_route
from reference_server.api.overload.state import BARE_LEVEL, Overload
from reference_server.api.requests import BODY, CALLER

Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class Gate:
    """Wraps the application; `application.state.overload` is there once it has started."""

    def __init__(self, application: Starlette) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the server's start and end."""
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        overload: Overload = self.application.state.overload
        path: str = scope["path"]
        if path in UNLIMITED or (path.startswith(OPERATOR) and overload.callers.is_operator(scope["headers"])):
            await self.application(scope, receive, send)
            return
        route = find_route(scope["method"], path)
        refusal = _judge(overload, route, path, scope)
        if refusal is None:
            refusal = await self._serve(overload, route, scope, receive, send)
        if refusal is not None:
            await send(refusal.start)
            await send(refusal.end)

    async def _serve(
        self, overload: Overload, route: Route, scope: Scope, receive: Receive, send: Send
    ) -> Refusal | None:
        """Have the request worked on; the answer instead when there is no room."""
        if not overload.pulse.beats_now:
            overload.pulse.wake()
        limiter, lane = overload.limiter, route.lane
        if not overload.flags.auto_throttle:
            limiter.enter(lane)
        else:
            if not limiter.has_room(lane):
                return _turn_away(overload, "full", route.priority)
            if route.has_body and (CALLER in scope or route is SIGN_UP):
                taken = await _take_body(overload, route, scope, receive)
                if not isinstance(taken, bytes):
                    return taken
                scope[BODY] = taken
            if not limiter.try_enter(lane) and not await _wait(overload, lane):
                return _turn_away(overload, "late", route.priority)
        started_s = time.monotonic()
        overload.admitted[route.priority] += 1
        try:
            await self.application(scope, receive, send)
        finally:
            overload.latencies.add(route.number, time.monotonic() - started_s)
            limiter.leave(lane)
        return None


def _judge(overload: Overload, route: Route, path: str, scope: Scope) -> Refusal | None:
    """The answer when the request is refused whatever room there is. Notes who the caller is."""
    flags = overload.flags
    if flags.kill_switch and path.startswith("/v1/") and not path.startswith(OPERATOR):
        overload.refused["kill_switch", route.priority] += 1
        return refusals.KILLED
    if flags.auto_throttle:
        now_s = time.monotonic()
        user = overload.callers.user(scope["headers"], now_s)
        if user != STRANGER:
            scope[CALLER] = user
            wait_s = overload.user_wait_s(user, route.writes, now_s)
            if wait_s:
                overload.refused["user_rate", route.priority] += 1
                return refusals.too_fast("of one user", wait_s)
        elif wait_s := overload.stranger_wait_s(route is SIGN_UP, now_s):
            overload.refused["stranger_rate", route.priority] += 1
            return refusals.too_fast("without a good token", wait_s)
    if overload.level and _is_left_out(overload.level, route, scope):
        overload.refused["level", route.priority] += 1
        return refusals.left_out()
    return None


def _is_left_out(level: int, route: Route, scope: Scope) -> bool:
    """From level 1 optional requests; at level 3 all but posting, joining and the beginning of feeds.

    A cursor that is in a body, or spelled oddly, is seen by the handler (`Overload.leaves_out_page`).
    """
    if route.priority is Priority.ESSENTIAL:
        return level >= BARE_LEVEL and route is FEED and b"cursor=" in scope["query_string"]
    return level >= BARE_LEVEL or route.priority is Priority.OPTIONAL


async def _take_body(overload: Overload, route: Route, scope: Scope, receive: Receive) -> bytes | Refusal:
    taken = await overload.bodies.take(scope.get(CALLER, STRANGER), receive)
    if taken is None:  # no pressure: it was its sender who took the time
        overload.refused["bodies", route.priority] += 1
        return refusals.busy()
    return taken


def _turn_away(overload: Overload, reason: str, priority: Priority) -> Refusal:
    overload.turn_away(reason, priority)
    return refusals.busy()


async def _wait(overload: Overload, lane: int) -> bool:
    """Wait in the queue; whether a slot came free."""
    started_s = time.monotonic()
    try:
        return await overload.limiter.wait(lane)
    finally:
        WAIT_SECONDS.observe(time.monotonic() - started_s)
