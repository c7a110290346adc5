"""Who may operate the stack, and its flags: GET /v1/operator/flags, PUT and DELETE /v1/operator/flags/{name}.

Answers carry `Flags-Version`: how many changes this process follows. Every process exports the same figure, so that of
a region's other processes can be told whether they follow them too.

The operator's token is in `operator.token` in the stack's directory; it is taken on loopback connections only.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reference_server.api import measures
from reference_server.api.parts import Parts, parts_of, queue_failures
from reference_server.api.problems import Problem
from reference_server.api.requests import json_body
from reference_server.events import FlagEvent
from reference_server.flags import FLAGS, START_ONLY, FlagInvalid, make_flags
from reference_server.security import SignatureRejected, check_operator_token

ATTEMPTS = 4
"""tries to be later than a setting that is made at the same time"""


_WHOLE = 1 << 53
"""whole numbers up to here are the same for every reader of JSON"""


class FlagRequest(msgspec.Struct):
    """Body of PUT /v1/operator/flags/{name}."""

    value: bool | Annotated[int, msgspec.Meta(ge=-_WHOLE, le=_WHOLE)] | float | str


_decoder = msgspec.json.Decoder(FlagRequest)


def require_operator(request: Request) -> None:
    """Raises Problem: "forbidden" (not from this machine), "unauthorized" (no token, or not ours)."""
    if not _is_loopback(request):
        raise Problem("forbidden", "the stack is operated from its own machine only")
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Problem("unauthorized", "the operator's token is required")
    try:
        check_operator_token(parts_of(request).secret, token.strip())
    except SignatureRejected as error:
        raise Problem("unauthorized", f"operator token: {error}") from None


def _is_loopback(request: Request) -> bool:
    """Whether the request was made on this machine, and not passed on by a proxy for somebody else."""
    host = request.client.host if request.client else ""
    try:
        return ipaddress.ip_address(host).is_loopback and _forwarded_for_loopback(request)
    except ValueError:
        return False


def _forwarded_for_loopback(request: Request) -> bool:
    """Raises ValueError for what is no address."""
    addresses = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    return all(ipaddress.ip_address(text.strip()).is_loopback for text in addresses if text.strip())


async def get_flags(request: Request) -> Response:
    """All flags as this process has them now."""
    require_operator(request)
    parts = parts_of(request)
    flags = [_described(parts, name) for name in FLAGS]
    return _json(parts, {"flags": flags})


async def change_flag(request: Request) -> Response:
    """PUT: set a flag; DELETE: back to what the stack was started with. In force everywhere within 5 s."""
    require_operator(request)
    parts = parts_of(request)
    name = request.path_params["name"]
    value = (await json_body(request, _decoder)).value if request.method == "PUT" else None
    try:
        make_flags({name: FLAGS[name].default if name in FLAGS and value is None else value})
    except FlagInvalid as error:
        raise Problem("bad-request", str(error)) from None
    if name in START_ONLY:
        raise Problem("conflict", f"{name} is read when a process starts: up --flag {name}=VALUE")
    await _set(parts, name, msgspec.json.encode(value))
    await parts.flags.look()
    measures.FLAG_CHANGES.inc()
    return _json(parts, _described(parts, name))


async def _set(parts: Parts, name: str, value: bytes) -> None:
    """Raises Problem."""
    for _ in range(ATTEMPTS):
        with queue_failures():
            hlc = parts.clock.next_above(await parts.queue.flag_clock(name))
            if await parts.queue.set_flag(FlagEvent(name, value, hlc, parts.region.name)):
                return
    raise Problem("unavailable", f"{name} is being set by others")


def _described(parts: Parts, name: str) -> dict[str, Any]:
    default, about = FLAGS[name].default, FLAGS[name].about
    value = getattr(parts.flags.now, name)
    return {"name": name, "value": value, "default": default, "about": about, "at_run_time": name not in START_ONLY}


def _json(parts: Parts, answer: dict[str, Any]) -> Response:
    headers = {"Flags-Version": str(parts.flags.version)}
    return Response(msgspec.json.encode(answer), headers=headers, media_type="application/json")
