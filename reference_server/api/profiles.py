"""GET and PATCH /v1/users/me: the caller's profile, and what may be shown to the caller."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reference_server.api.graph_view import GraphUnavailable
from reference_server.api.parts import Parts, parts_of, queue_failures
from reference_server.api.problems import Problem
from reference_server.api.profile_cache import Profile
from reference_server.api.requests import caller, json_body
from reference_server.events import GraphEvent, Reader


class ProfileRequest(msgspec.Struct):
    """Body of PATCH /v1/users/me; what is not named stays."""

    minor: bool | msgspec.UnsetType = msgspec.UNSET
    safe_mode: bool | msgspec.UnsetType = msgspec.UNSET


_BITS = {"minor": Reader.MINOR, "safe_mode": Reader.SAFE_MODE}
_decoder = msgspec.json.Decoder(ProfileRequest)
_encoder = msgspec.json.Encoder()


async def me(request: Request) -> Response:
    """GET: the caller's profile. PATCH: set what the body names; 200 with the profile as it is then."""
    parts = parts_of(request)
    user = caller(request, parts.secret, parts.users)
    if request.method == "PATCH":
        return await _change(parts, user, await json_body(request, _decoder))
    profile = await parts.profiles.get(user)
    if profile is None:
        profile, settled = await _asked(parts, user)
        if settled:
            parts.profiles.add(user, profile)
    return _answer(profile)


async def _change(parts: Parts, user: int, asked: ProfileRequest) -> Response:
    """Write what is named and nothing else, also what seems to be so: another change may be under way."""
    profile, _ = await _asked(parts, user)  # nothing is written when it cannot be told what the profile is then
    named = {name: value for name in _BITS if (value := getattr(asked, name)) is not msgspec.UNSET}
    if not named:
        return _answer(profile)
    mask = Reader(sum(_BITS[name] for name in named))
    reader = Reader(sum(_BITS[name] for name, value in named.items() if value))
    event = GraphEvent("profile", user, parts.clock.next(), parts.region.name, int(reader), int(mask))
    with queue_failures():
        stream_id = await parts.queue.append_graph(event)
    parts.clock.update(event.hlc)
    applied = await parts.graph.profile_changed(user, stream_id, mask, reader)
    await parts.profiles.forget([user])
    try:
        profile, _ = await _asked(parts, user)
    except Problem:
        applied = False
    return _answer(profile if applied else msgspec.structs.replace(profile, **named), degraded=not applied)


async def _asked(parts: Parts, user: int) -> tuple[Profile, bool]:
    """The profile as the graph has it, and whether nothing is under way that changes it. Raises Problem."""
    try:
        (followers, following), state = await asyncio.gather(parts.graph.counts(user), parts.graph.user(user))
    except GraphUnavailable as error:
        raise Problem("unavailable", "the graph does not answer") from error
    reader = Reader(state.reader)
    profile = Profile(str(user), followers, following, state.joined, Reader.MINOR in reader, Reader.SAFE_MODE in reader)
    return profile, state.joined and state.import_ == "done"


def _answer(profile: Profile, *, degraded: bool = False) -> Response:
    headers = {"Feed-Degraded": "stale"} if degraded else None
    return Response(_encoder.encode(profile), headers=headers, media_type="application/json")
