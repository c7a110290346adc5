"""Checks of sign-up, tokens, profile and import."""

from __future__ import annotations

from harness.contract.conformance.registry import check
from harness.contract.conformance.trial import Trial


@check("signup-idempotent")
async def signup_is_idempotent(t: Trial) -> None:
    """Signing up again answers 200 with the same user, and both tokens are valid."""
    member = await t.member()
    again = await t.client.sign_up(t.profile.users.identity_of(member.number))
    t.holds(t.done(again, "second sign-up").user.id == member.id, "the second sign-up answers another user")
    t.holds(again.status == 200, f"the second sign-up answers {again.status}, not 200")
    for api in (member.api, t.client.user(again.get().token)):
        t.holds(t.done(await api.me(), "profile").id == member.id, "a token stands for another user")


@check("signup-unknown-identity")
async def unknown_identity(t: Trial) -> None:
    """An identity that was not inherited cannot sign up: 404."""
    t.refused(await t.client.sign_up("no-such-identity"), 404, "sign-up of an unknown identity")


@check("signup-malformed")
async def malformed_signup(t: Trial) -> None:
    """A sign-up without an identity, or with one that is no text, answers 400."""
    for body in ({}, {"identity": 7}, {"identity": ""}, ["42"]):
        t.refused(await t.client.call("POST", "/v1/users", body=body), 400, f"sign-up with {body}")


@check("token-forged")
async def forged_tokens(t: Trial) -> None:
    """A token that was altered, cut or invented answers 401."""
    token = (await t.member()).api.token
    middle = len(token) // 2
    altered = token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :]
    for forged in (altered, token[:-4], "x", "7.7"):
        t.refused(await t.client.user(forged).me(), 401, "a forged token")


@check("token-missing")
async def missing_tokens(t: Trial) -> None:
    """Without a token, everything of a user answers 401."""
    t.refused(await t.client.me(), 401, "profile")
    t.refused(await t.client.feed(), 401, "feed")
    t.refused(await t.client.post("nobody's"), 401, "post")
    t.refused(await t.client.follow("1"), 401, "follow")


@check("profile")
async def profile(t: Trial) -> None:
    """The profile names the caller, as joined, and counts whom it follows."""
    member, other = await t.member(), await t.member()
    t.done(await member.api.unfollow(other.id), "unfollow")
    before = t.done(await member.api.me(), "profile")
    t.holds(before.id == member.id and before.joined, f"the profile is {before}")
    t.done(await member.api.follow(other.id), "follow")

    async def counted() -> bool:
        return t.done(await member.api.me(), "profile").following == before.following + 1

    await t.eventually(counted, t.profile.slo.visibility_s, "a follow to be counted")


@check("import-finishes", "imports")
async def import_finishes(t: Trial) -> None:
    """The import of inherited follows ends, with all of them done."""
    member = await t.member()
    state = t.done(await member.api.import_state(), "import state")
    t.holds(state.state == "done", f"the import is {state.state}")
    t.holds(state.done == state.total, f"the import is done with {state.done} of {state.total}")
