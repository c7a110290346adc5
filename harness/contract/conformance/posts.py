"""Checks of writing, deleting, liking and looking up posts."""

from __future__ import annotations

import itertools

from harness.contract.conformance.registry import check
from harness.contract.conformance.trial import Trial

UNKNOWN = "no-such-post"


@check("post-accepted")
async def post_is_accepted(t: Trial) -> None:
    """A post answers 201 with its text, author and parent as they were sent."""
    author = await t.member()
    parent = await t.post(author)
    text = "zażółć gęślą jaźń 🌊"
    answer = await author.api.post(text, reply_to=parent.id)
    post = t.done(answer, "post").post
    t.holds(answer.status == 201, f"a post answers {answer.status}, not 201")
    t.holds(post.text == text, f"the text comes back as {post.text!r}")
    t.holds(post.author == author.id, f"the author comes back as {post.author!r}")
    t.holds(post.reply_to == parent.id, f"the parent comes back as {post.reply_to!r}")


@check("post-idempotency-key", "idempotency")
async def idempotency_key(t: Trial) -> None:
    """One Idempotency-Key of one author writes one post; a repeat answers 200 with that post."""
    author, other = await t.member(), await t.member()
    key = f"conformance-{t.seed}-{author.number}"
    first = t.done(await author.api.post("once", idempotency_key=key), "post").post
    repeat = await author.api.post("once", idempotency_key=key)
    t.holds(t.done(repeat, "repeat").post == first, f"the repeat of a key answers another post: {repeat.get().post}")
    t.holds(repeat.status == 200, f"the repeat of a key answers {repeat.status}, not 200")
    second = t.done(await author.api.post("once", idempotency_key=f"{key}-2"), "post").post
    foreign = t.done(await other.api.post("once", idempotency_key=key), "post").post
    t.holds(len({first.id, second.id, foreign.id}) == 3, "another key, or another author's, answers the first post")
    t.holds((await t.feed_ids(author)).count(first.id) == 1, "the post is not in the feed exactly once")


@check("post-read-your-writes")
async def read_your_writes(t: Trial) -> None:
    """The author's next read contains the post just acknowledged."""
    author = await t.member()
    for _ in range(5):
        post = await t.post(author)
        ids = await t.feed_ids(author)
        t.holds(post.id in ids, "the author's own post is missing from the next read")


@check("post-author-order")
async def author_order(t: Trial) -> None:
    """Posts an author writes one after the other have strictly rising display keys."""
    author = await t.member()
    keys = [(await t.post(author)).created_at_us for _ in range(8)]
    t.holds(all(a < b for a, b in itertools.pairwise(keys)), f"timestamps do not rise: {keys}")


@check("post-text-limits")
async def text_limits(t: Trial) -> None:
    """A text has 1 to 500 characters; others, and what is no text, answer 400."""
    author = await t.member()
    for text in ("é" * 500, "x"):
        t.done(await author.api.post(text), f"a text of {len(text)} characters")
    for body in ({"text": ""}, {"text": "x" * 501}, {"text": 7}, {"text": None}, {}, {"text": "x", "reply_to": 7}):
        t.refused(await author.api.call("POST", "/v1/posts", body=body), 400, f"the post {str(body)[:40]}")


@check("delete-gone", "delete")
async def delete_removes(t: Trial) -> None:
    """A deleted post leaves the author's next read at once and its followers' within visibility; repeats answer 204."""
    author = await t.member()
    reader = await t.follower_of(author)
    post = await t.post(author)
    await t.shows(reader, post)
    for _ in range(2):
        answer = await author.api.delete(post.id)
        t.done(answer, "delete")
        t.holds(answer.status == 204, f"delete answers {answer.status}, not 204")
    t.holds(post.id not in await t.feed_ids(author), "the deleted post is still in its author's feed")
    await t.hides(reader, post, "a deleted post")


@check("delete-foreign", "delete")
async def delete_of_others(t: Trial) -> None:
    """Deleting another user's post answers 403 and does nothing."""
    author, other = await t.member(), await t.member()
    post = await t.post(author)
    t.refused(await other.api.delete(post.id), 403, "delete of another user's post")
    t.holds(post.id in await t.feed_ids(author), "the post is gone although the delete was refused")


@check("delete-unknown", "delete")
async def delete_of_nothing(t: Trial) -> None:
    """Deleting a post that never was answers 404."""
    t.refused(await (await t.member()).api.delete(UNKNOWN), 404, "delete of an unknown post")


@check("like", "like")
async def like(t: Trial) -> None:
    """A like answers 204, also when repeated; of an unknown post 404."""
    author, fan = await t.member(), await t.member()
    post = await t.post(author)
    for _ in range(2):
        answer = await fan.api.like(post.id)
        t.done(answer, "like")
        t.holds(answer.status == 204, f"like answers {answer.status}, not 204")
    t.refused(await fan.api.like(UNKNOWN), 404, "like of an unknown post")


@check("batch", "batch")
async def batch(t: Trial) -> None:
    """A look-up gives the posts it knows, as written, and leaves out those it does not."""
    author, reader = await t.member(), await t.member()
    written = [await t.post(author) for _ in range(3)]
    answer = await reader.api.posts_batch([p.id for p in written] + [UNKNOWN])
    found = {p.id: p for p in t.done(answer, "batch").posts}
    t.holds(found == {p.id: p for p in written}, f"asked for 3 known posts and an unknown one, got {sorted(found)}")


@check("batch-limits", "batch")
async def batch_limits(t: Trial) -> None:
    """A look-up takes 1 to 100 ids; otherwise 400."""
    reader = await t.member()
    t.done(await reader.api.posts_batch([f"{UNKNOWN}-{i}" for i in range(100)]), "a look-up of 100 ids")
    t.refused(await reader.api.posts_batch([f"{UNKNOWN}-{i}" for i in range(101)]), 400, "a look-up of 101 ids")
    t.refused(await reader.api.posts_batch([]), 400, "a look-up of no ids")


@check("batch-deleted", "batch", "delete")
async def batch_without_deleted(t: Trial) -> None:
    """A look-up no longer gives a deleted post."""
    author = await t.member()
    post = await t.post(author)
    t.done(await author.api.delete(post.id), "delete")

    async def gone() -> bool:
        return not t.done(await author.api.posts_batch([post.id]), "batch").posts

    await t.eventually(gone, t.profile.slo.visibility_s, "a deleted post to leave look-ups")
