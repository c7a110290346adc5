"""Checks of hiding and showing posts, of labels, and of what a profile keeps from its owner."""

from __future__ import annotations

from harness.contract.client import Result
from harness.contract.conformance.registry import check
from harness.contract.conformance.trial import Trial

UNKNOWN = "no-such-post"


@check("hide-gone", "hide")
async def hide_removes(t: Trial) -> None:
    """A hidden post leaves the author's next read at once and its followers' within visibility; repeats answer 204."""
    author = await t.member()
    reader = await t.follower_of(author)
    post = await t.post(author)
    await t.shows(reader, post)
    for _ in range(2):
        answer = await author.api.hide(post.id)
        t.done(answer, "hide")
        t.holds(answer.status == 204, f"hide answers {answer.status}, not 204")
    t.holds(post.id not in await t.feed_ids(author), "the hidden post is still in its author's feed")
    await t.hides(reader, post, "a hidden post")


@check("hide-shown-again", "hide")
async def show_restores(t: Trial) -> None:
    """A post that is shown again is in the author's next read, and in its followers' feeds, where it stood."""
    author = await t.member()
    reader = await t.follower_of(author)
    posts = [await t.post(author) for _ in range(3)]
    await t.shows(reader, posts[2])
    t.done(await author.api.hide(posts[1].id), "hide")
    await t.hides(reader, posts[1], "a hidden post")
    for _ in range(2):
        answer = await author.api.show(posts[1].id)
        t.done(answer, "show")
        t.holds(answer.status == 204, f"show answers {answer.status}, not 204")
    expected = [post.id for post in posts[::-1]]
    items = t.done(await author.api.feed(), "feed").items
    t.holds(t.ours(items) == expected, "the shown post is not at its old place in its author's feed")
    await t.shows(reader, posts[1])
    items = t.done(await reader.api.feed(), "feed").items
    t.holds(t.ours(items) == expected, "the shown post is not at its old place in a follower's feed")
    t.holds(posts[1] in items, "the shown post is not what it was")


@check("hide-foreign", "hide")
async def hide_of_others(t: Trial) -> None:
    """Hiding or showing another user's post answers 403 and does nothing."""
    author, other = await t.member(), await t.member()
    post = await t.post(author)
    t.refused(await other.api.hide(post.id), 403, "hide of another user's post")
    t.holds(post.id in await t.feed_ids(author), "the post is gone although the hide was refused")
    t.done(await author.api.hide(post.id), "hide")
    t.refused(await other.api.show(post.id), 403, "show of another user's post")
    t.holds(post.id not in await t.feed_ids(author), "the post is back although the show was refused")


@check("hide-unknown", "hide")
async def hide_of_nothing(t: Trial) -> None:
    """Hiding or showing a post that never was answers 404."""
    author = await t.member()
    t.refused(await author.api.hide(UNKNOWN), 404, "hide of an unknown post")
    t.refused(await author.api.show(UNKNOWN), 404, "show of an unknown post")


@check("hide-deleted", "hide", "delete")
async def deleted_stays_deleted(t: Trial) -> None:
    """A hidden post can be deleted, and then neither be hidden nor shown: 404."""
    author = await t.member()
    post = await t.post(author)
    t.done(await author.api.hide(post.id), "hide")
    t.done(await author.api.delete(post.id), "delete")
    t.refused(await author.api.show(post.id), 404, "show of a deleted post")
    t.refused(await author.api.hide(post.id), 404, "hide of a deleted post")
    t.holds(post.id not in await t.feed_ids(author), "the deleted post is back")


@check("hide-lookup", "hide", "batch")
async def hidden_is_not_looked_up(t: Trial) -> None:
    """A look-up does not give a hidden post, and a post cannot answer it: 404."""
    author, other = await t.member(), await t.member()
    post = await t.post(author)
    t.done(await author.api.hide(post.id), "hide")

    async def gone() -> bool:
        return not t.done(await other.api.posts_batch([post.id]), "batch").posts

    await t.eventually(gone, t.profile.slo.visibility_s, "a hidden post to leave look-ups")
    t.refused(await other.api.post("an answer", reply_to=post.id), 404, "an answer to a hidden post")


@check("labels-kept", "labels", "batch")
async def labels_come_back(t: Trial) -> None:
    """A post's labels come back as they were sent; a post without any has none; unknown ones answer 400."""
    author = await t.member()
    plain, labelled = await t.post(author), await t.post(author, labels=["sensitive", "adult"])
    t.holds(set(labelled.labels) == {"adult", "sensitive"}, f"the labels come back as {labelled.labels}")
    t.holds(not plain.labels, f"a post without labels has {plain.labels}")
    found = t.done(await author.api.posts_batch([plain.id, labelled.id]), "batch").posts
    t.holds({p.id: p for p in found} == {plain.id: plain, labelled.id: labelled}, "a look-up gives other labels")
    for labels in (["gory"], ["adult", 7], "adult"):
        answer: Result[None] = await author.api.call("POST", "/v1/posts", body={"text": "x", "labels": labels})
        t.refused(answer, 400, f"a post with the labels {labels}")


@check("labels-filter", "labels", "profile")
async def labels_keep_readers_away(t: Trial) -> None:
    """A minor reads no adult posts, safe mode hides sensitive ones; they come back when the profile changes."""
    author = await t.member()
    reader = await t.follower_of(author)
    plain, adult, sensitive = [await t.post(author, labels=labels) for labels in ((), ("adult",), ("sensitive",))]
    everything = [sensitive.id, adult.id, plain.id]
    for post in (plain, adult, sensitive):
        await t.shows(reader, post)
    for said, expected in (
        ({"minor": True}, [sensitive.id, plain.id]),
        ({"safe_mode": True}, [plain.id]),
        ({"minor": False}, [adult.id, plain.id]),
        ({"safe_mode": False}, everything),
    ):
        t.done(await reader.api.set_profile(**said), "change of profile")
        found = t.ours(t.done(await reader.api.feed(), "feed").items)
        t.holds(found == expected, f"after {said} the feed has {len(found)} of 3 posts, or others than it may")


@check("labels-own", "labels", "profile")
async def own_posts_show(t: Trial) -> None:
    """One's own posts show whatever their labels."""
    author = await t.member()
    t.done(await author.api.set_profile(minor=True, safe_mode=True), "change of profile")
    post = await t.post(author, labels=["adult", "sensitive"])
    t.holds(post.id in await t.feed_ids(author), "the author's own labelled post is missing")


@check("profile-change", "profile")
async def profile_changes(t: Trial) -> None:
    """A change of profile sets what it names, keeps the rest, and shows in the next read."""
    member = await t.member()
    before = t.done(await member.api.me(), "profile")
    t.holds(not before.minor and not before.safe_mode, f"the profile begins as {before}")
    for said, expected in (
        ({"minor": True}, (True, False)),
        ({"safe_mode": True}, (True, True)),
        ({}, (True, True)),
        ({"minor": False}, (False, True)),
    ):
        changed = t.done(await member.api.set_profile(**said), "change of profile")
        t.holds((changed.minor, changed.safe_mode) == expected, f"after {said} the answer is {changed}")
        now = t.done(await member.api.me(), "profile")
        t.holds((now.minor, now.safe_mode) == expected, f"after {said} the profile is {now}")


@check("profile-malformed", "profile")
async def malformed_profile(t: Trial) -> None:
    """A change of profile to what is neither true nor false answers 400."""
    member = await t.member()
    for body in (b'{"minor":1}', b'{"minor":null}', b'{"safe_mode":"yes"}', b"[]", b'"minor"'):
        answer: Result[None] = await member.api.call("PATCH", "/v1/users/me", content=body)
        t.refused(answer, 400, f"the profile {body.decode()}")
