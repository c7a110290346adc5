"""Checks of what the operator of a target does: moderation and feature flags."""

from __future__ import annotations

from harness.contract.client import FeedClient, Flag, Result
from harness.contract.conformance.registry import check
from harness.contract.conformance.trial import Trial, Unanswered

UNKNOWN = "no-such-thing"
IN_FORCE_S = 5.0
"""how long a flag may take to be in force, in all regions"""


@check("moderate-gone", "moderate", "operator")
async def moderation_removes(t: Trial) -> None:
    """A moderated post leaves the feeds of its author and its followers within visibility; repeats answer 204."""
    author = await t.member()
    reader = await t.follower_of(author)
    post = await t.post(author)
    await t.shows(reader, post)
    for _ in range(2):
        answer = await t.operator().moderate(post.id)
        t.done(answer, "moderation")
        t.holds(answer.status == 204, f"a moderation answers {answer.status}, not 204")
    await t.hides(author, post, "a moderated post")
    await t.hides(reader, post, "a moderated post")


@check("moderate-author", "moderate", "hide", "operator")
async def author_cannot_undo(t: Trial) -> None:
    """The author of a moderated post can neither hide nor show it: 409."""
    author = await t.member()
    post = await t.post(author)
    t.done(await t.operator().moderate(post.id), "moderation")
    t.refused(await author.api.show(post.id), 409, "show of a moderated post")
    t.refused(await author.api.hide(post.id), 409, "hide of a moderated post")
    await t.hides(author, post, "a moderated post")


@check("moderate-lifted", "moderate", "hide", "operator")
async def moderation_is_lifted(t: Trial) -> None:
    """Once its moderation is lifted, a post is as its author left it: visible, or hidden."""
    author = await t.member()
    seen, hidden = await t.post(author), await t.post(author)
    t.done(await author.api.hide(hidden.id), "hide")
    operator = t.operator()
    for post in (seen, hidden):
        t.done(await operator.moderate(post.id), "moderation")
        t.done(await operator.lift_moderation(post.id), "lifting a moderation")
    await t.shows(author, seen)
    t.holds(hidden.id not in await t.feed_ids(author), "a post that its author had hidden is back")


@check("moderate-unknown", "moderate", "operator")
async def moderation_of_nothing(t: Trial) -> None:
    """Moderating a post that never was answers 404."""
    operator = t.operator()
    t.refused(await operator.moderate(UNKNOWN), 404, "moderation of an unknown post")
    t.refused(await operator.lift_moderation(UNKNOWN), 404, "lifting the moderation of an unknown post")


@check("moderate-token", "moderate", "operator")
async def users_cannot_moderate(t: Trial) -> None:
    """Without the operator's token moderation answers 401, also to the author, and does nothing."""
    author = await t.member()
    post = await t.post(author)
    for api in (author.api, t.client, t.client.user("x")):
        t.refused(await api.moderate(post.id), 401, "moderation without the operator's token")
    t.holds(post.id in await t.feed_ids(author), "the post is gone although the moderation was refused")


@check("flags-token", "flags", "operator")
async def users_cannot_operate(t: Trial) -> None:
    """Without the operator's token flags are neither shown nor set: 401."""
    member = await t.member()
    for api in (member.api, t.client, t.client.user("x")):
        t.refused(await api.flags(), 401, "flags without the operator's token")
        t.refused(await api.set_flag(UNKNOWN, True), 401, "setting a flag without the operator's token")
    t.holds(bool(t.done(await t.operator().flags(), "flags").flags), "the target says it has flags, and lists none")


@check("flags-malformed", "flags", "operator")
async def malformed_flags(t: Trial) -> None:
    """A flag that does not exist, or a value that is none for it, answers 400 and changes nothing."""
    operator = t.operator()
    before = t.done(await operator.flags(), "flags").flags
    t.refused(await operator.set_flag(UNKNOWN, True), 400, "setting an unknown flag")
    t.refused(await operator.reset_flag(UNKNOWN), 400, "resetting an unknown flag")
    for flag in [flag for flag in before if flag.at_run_time][:3]:
        value = f"not {flag.name}" if not isinstance(flag.value, str) else 7
        t.refused(await operator.set_flag(flag.name, value), 400, f"setting {flag.name} to {value}")
        answer: Result[None] = await operator.call("PUT", f"/v1/operator/flags/{flag.name}", body={})
        t.refused(answer, 400, f"setting {flag.name} to nothing")
    now = {flag.name: flag.value for flag in t.done(await operator.flags(), "flags").flags}
    t.holds(now.keys() == {flag.name for flag in before}, "the flags are others than before")


@check("flags-at-start", "flags", "operator")
async def flags_read_at_start(t: Trial) -> None:
    """A flag that is read at start only says so, and setting it answers 409."""
    operator = t.operator()
    flags = t.done(await operator.flags(), "flags").flags
    t.holds(len({flag.name for flag in flags}) == len(flags), "a flag is listed twice")
    for flag in flags:
        if not flag.at_run_time:
            t.refused(await operator.set_flag(flag.name, flag.value), 409, f"setting {flag.name}")


@check("flags-set", "flags", "operator")
async def flags_are_set(t: Trial) -> None:
    """A flag that is set has its value in the next list, and is reset to what it was at the start."""
    await _set_and_reset(t, t.operator(), t.operator(), "set")


@check("region-flag", "regions", "flags", "operator")
async def flags_elsewhere(t: Trial) -> None:
    """A flag set in one region is in force in another within 5 seconds."""
    await _set_and_reset(t, t.operator(), t.operator(t.other_region()), "set in another region")


async def _set_and_reset(t: Trial, operator: FeedClient, reader: FeedClient, what: str) -> None:
    """Set a harmless flag, see it, reset it, and leave it as it was: somebody may have set it before."""
    found = await _harmless(t, operator, what)
    start = t.done(await operator.reset_flag(found.name), "resetting a flag").value
    value = start + 1 if isinstance(start, int | float) else start

    async def has(wanted: object) -> bool:
        return any(f.name == found.name and f.value == wanted for f in t.done(await reader.flags(), "flags").flags)

    try:
        changed = t.done(await operator.set_flag(found.name, value), "setting a flag")
        t.holds((changed.name, changed.value) == (found.name, value), f"set to {value}, the answer is {changed}")
        await t.eventually(lambda: has(value), IN_FORCE_S, f"{found.name} to be {what}")
        back = t.done(await operator.reset_flag(found.name), "resetting a flag").value
        t.holds(back == start, f"{found.name} is reset to {back}, before it was {start}")
        await t.eventually(lambda: has(start), IN_FORCE_S, f"{found.name} to be {what} back")
    finally:
        await operator.reset_flag(found.name)
        if found.value != start:
            await operator.set_flag(found.name, found.value)


async def _harmless(t: Trial, operator: FeedClient, what: str) -> Flag:
    """A number that may grow by one without harm; each check takes one of its own, as checks run at the same time."""
    flags = t.done(await operator.flags(), "flags").flags
    numbers = [flag for flag in flags if flag.at_run_time and type(flag.value) in (int, float)]
    if len(numbers) < 2:
        raise Unanswered("the target has no two flags that are numbers")
    return numbers[-1] if what == "set" else numbers[-2]
