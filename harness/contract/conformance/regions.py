"""Checks across regions: what is written in one is read in another."""

from __future__ import annotations

from harness.contract.conformance.registry import check
from harness.contract.conformance.streams import expect_posts, next_event, opened
from harness.contract.conformance.trial import Trial


@check("region-token", "regions")
async def token_elsewhere(t: Trial) -> None:
    """A token is valid in every region."""
    member = await t.member()
    me = t.done(await t.elsewhere(member).api.me(), "profile in the other region")
    t.holds(me.id == member.id, "the token stands for another user in the other region")


@check("region-visible", "regions")
async def visible_elsewhere(t: Trial) -> None:
    """A post written in one region appears in a follower's feed in another within the cross-region bound, once."""
    author = await t.member()
    reader = t.elsewhere(await t.follower_of(author))
    post = await t.post(author)
    await t.shows(reader, post, t.profile.slo.cross_region_s)
    t.holds((await t.feed_ids(reader)).count(post.id) == 1, "the post is there more than once")


@check("region-follow", "regions")
async def follow_elsewhere(t: Trial) -> None:
    """A follow made in one region counts in another within the cross-region bound."""
    author, reader = await t.member(), await t.member()
    before = t.done(await author.api.me(), "profile").followers
    t.done(await t.elsewhere(reader).api.follow(author.id), "follow in the other region")

    async def counted() -> bool:
        return t.done(await author.api.me(), "profile").followers > before

    await t.eventually(counted, t.profile.slo.cross_region_s, "a follow made in the other region to be counted")
    await t.shows(reader, await t.post(author))


@check("region-block", "regions", "block")
async def block_elsewhere(t: Trial) -> None:
    """A block made in one region hides each one's posts from the other in another within the cross-region bound."""
    first = await t.member()
    second = await t.follower_of(first)
    t.done(await first.api.follow(second.id), "follow")
    ours, theirs = await t.post(first), await t.post(second)
    await t.shows(t.elsewhere(second), ours, t.profile.slo.cross_region_s)
    await t.shows(t.elsewhere(first), theirs, t.profile.slo.cross_region_s)
    t.done(await first.api.block(second.id), "block")
    await t.hides(t.elsewhere(second), ours, "the post of who blocked elsewhere", t.profile.slo.cross_region_s)
    await t.hides(t.elsewhere(first), theirs, "the post of who was blocked elsewhere", t.profile.slo.cross_region_s)


@check("region-event", "regions", "stream")
async def event_elsewhere(t: Trial) -> None:
    """A post written in one region is announced to a stream in another within the cross-region bound."""
    author = await t.member()
    reader = t.elsewhere(await t.follower_of(author))
    warm = await t.post(author)
    await t.shows(reader, warm, t.profile.slo.cross_region_s)
    async with opened(t, reader.api) as stream:
        post = await t.post(author)
        _, data = await next_event(t, stream, "an event from the other region", t.profile.slo.cross_region_s)
        t.holds(data.id == post.id, f"another event came: {data}")


@check("region-cursor", "regions", "paging")
async def cursor_elsewhere(t: Trial) -> None:
    """A cursor issued in one region goes on at the same place in another."""
    author = await t.member()
    reader = await t.follower_of(author)
    posts = [await t.post(author) for _ in range(5)]
    for post in posts:
        await t.shows(reader, post)
        await t.shows(t.elsewhere(reader), post, t.profile.slo.cross_region_s)
    cursor = t.done(await reader.api.feed(2), "feed").next_cursor
    t.holds(cursor is not None, "a page that is not the last has no cursor")
    there = t.done(await t.elsewhere(reader).api.feed(3, cursor), "feed in the other region").items
    here = t.done(await reader.api.feed(3, cursor), "feed").items
    following = [p.id for p in posts[2::-1]]
    t.holds(t.ours(here) == following[: len(t.ours(here))], "the second page is not what follows the first")
    t.holds(bool(there) and t.ours(there) == t.ours(here), "the other region goes on elsewhere")


@check("region-delete", "regions", "delete")
async def delete_elsewhere(t: Trial) -> None:
    """A post deleted in one region leaves feeds in another within the cross-region bound."""
    author = await t.member()
    reader = t.elsewhere(await t.follower_of(author))
    post = await t.post(author)
    await t.shows(reader, post, t.profile.slo.cross_region_s)
    t.done(await author.api.delete(post.id), "delete")
    await t.hides(reader, post, "a post deleted elsewhere", t.profile.slo.cross_region_s)


@check("region-hide", "regions", "hide")
async def hide_elsewhere(t: Trial) -> None:
    """A post hidden in one region leaves feeds in another within the cross-region bound, and comes back as soon."""
    author = await t.member()
    reader = t.elsewhere(await t.follower_of(author))
    post = await t.post(author)
    await t.shows(reader, post, t.profile.slo.cross_region_s)
    t.done(await author.api.hide(post.id), "hide")
    await t.hides(reader, post, "a post hidden elsewhere", t.profile.slo.cross_region_s)
    t.done(await author.api.show(post.id), "show")
    await t.shows(reader, post, t.profile.slo.cross_region_s)


@check("region-profile", "regions", "profile")
async def profile_elsewhere(t: Trial) -> None:
    """A profile changed in one region is changed in another within the cross-region bound."""
    member = await t.member()
    t.done(await member.api.set_profile(minor=True), "change of profile")
    there = t.elsewhere(member)

    async def known() -> bool:
        return t.done(await there.api.me(), "profile in the other region").minor

    await t.eventually(known, t.profile.slo.cross_region_s, "a profile to be changed in the other region")


@check("region-resume", "regions", "stream", "resume")
async def resume_elsewhere(t: Trial) -> None:
    """A resume token of one region is no error in another: the missed events come, or a resync."""
    author = await t.member()
    reader = await t.follower_of(author)
    async with opened(t, reader.api) as stream:
        token = stream.last_event_id
    missed = await t.post(author)
    await t.shows(t.elsewhere(reader), missed, t.profile.slo.cross_region_s)
    async with opened(t, t.elsewhere(reader).api, token) as resumed:
        _, data = await next_event(t, resumed, "the missed event or a resync", t.profile.slo.cross_region_s)
        t.holds(data.type == "resync" or data.id == missed.id, f"another event came: {data}")
        if data.type != "resync":
            return
        later = await t.post(author)
        await expect_posts(t, resumed, [later], "the event after a resync")
