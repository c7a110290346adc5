"""Checks of follows and blocks."""

from __future__ import annotations

from harness.contract.conformance.registry import check
from harness.contract.conformance.trial import Trial

UNKNOWN = "no-such-user"


@check("follow-visible")
async def follow_makes_visible(t: Trial) -> None:
    """A post written after a follow appears in the follower's feed within the visibility bound."""
    author = await t.member()
    reader = await t.follower_of(author)
    await t.shows(reader, await t.post(author))


@check("follow-not-visible")
async def strangers_are_not_visible(t: Trial) -> None:
    """Posts of authors one does not follow do not appear."""
    author, stranger = await t.member(), await t.member()
    reader = await t.follower_of(author)
    t.done(await reader.api.unfollow(stranger.id), "unfollow")
    unwanted, wanted = await t.post(stranger), await t.post(author)
    await t.shows(reader, wanted)
    t.holds(unwanted.id not in await t.feed_ids(reader), "the post of a stranger is in the feed")


@check("unfollow-filter")
async def unfollow_hides(t: Trial) -> None:
    """After an unfollow is acknowledged, the reader's next read has no post of that author."""
    author = await t.member()
    reader = await t.follower_of(author)
    post = await t.post(author)
    await t.shows(reader, post)
    t.done(await reader.api.unfollow(author.id), "unfollow")
    t.holds(post.id not in await t.feed_ids(reader), "a post of an unfollowed author is still in the feed")


@check("block-filter", "block")
async def block_hides_both_ways(t: Trial) -> None:
    """A block hides each one's posts from the other: from the blocker at once, from the blocked within visibility."""
    first = await t.member()
    second = await t.follower_of(first)
    t.done(await first.api.follow(second.id), "follow")
    ours, theirs = await t.post(first), await t.post(second)
    await t.shows(second, ours)
    await t.shows(first, theirs)
    t.done(await first.api.block(second.id), "block")
    t.holds(theirs.id not in await t.feed_ids(first), "the blocker still sees a post of the blocked")
    await t.hides(second, ours, "the blocker's post")


@check("unblock", "block")
async def unblock_is_possible(t: Trial) -> None:
    """A lifted block no longer hides posts written after the two follow again."""
    author = await t.member()
    reader = await t.follower_of(author)
    t.done(await reader.api.block(author.id), "block")
    t.done(await reader.api.unblock(author.id), "unblock")
    t.done(await reader.api.follow(author.id), "follow")
    await t.shows(reader, await t.post(author))


@check("edges-idempotent")
async def edges_are_idempotent(t: Trial) -> None:
    """Follow and unfollow answer 204 however often they are repeated."""
    member, other = await t.member(), await t.member()
    for call in (member.api.follow, member.api.follow, member.api.unfollow, member.api.unfollow):
        answer = await call(other.id)
        t.done(answer, "a repeated edge")
        t.holds(answer.status == 204, f"an edge answers {answer.status}, not 204")


@check("edges-unknown-user")
async def edges_to_nobody(t: Trial) -> None:
    """Follow and unfollow of a user that does not exist answer 404."""
    member = await t.member()
    t.refused(await member.api.follow(UNKNOWN), 404, "follow of an unknown user")
    t.refused(await member.api.unfollow(UNKNOWN), 404, "unfollow of an unknown user")


@check("blocks-unknown-user", "block")
async def blocks_of_nobody(t: Trial) -> None:
    """A block of a user that does not exist answers 404."""
    t.refused(await (await t.member()).api.block(UNKNOWN), 404, "block of an unknown user")


@check("edges-self")
async def edges_to_oneself(t: Trial) -> None:
    """Nobody can follow oneself: 400."""
    member = await t.member()
    t.refused(await member.api.follow(member.id), 400, "follow of oneself")
