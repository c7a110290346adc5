"""Hide, moderate and show: the latest clock wins, a delete wins over all, in whatever order they come."""

from __future__ import annotations

import itertools
import os

import pytest

from reference_server.events import DeleteEvent, PostEvent, StatusEvent
from reference_server.queue import START, Gone, Limits, Queue, Standing, StreamKeeper
from reference_server.queue.errors import Backpressure
from reference_server.queue.stream_keeper import KEEP_DELETED_S
from reference_server.timeline.entry import Status

pytestmark = pytest.mark.slow
HERE, PEER = "us-east", "ap-tokyo"
VISIBLE, HIDDEN, MODERATED = Status.VISIBLE, Status.HIDDEN_BY_AUTHOR, Status.MODERATED


async def accepted(queue: Queue) -> PostEvent:
    found = await queue.accept_post(7, os.urandom(16), "hello", b"", None, False, 1_700_000_000_000_000, HERE, labels=2)
    return PostEvent(found.id, 7, found.ts_us, "hello", HERE, labels=2)


def status(post: PostEvent, value: Status, hlc: int, origin: str = HERE) -> StatusEvent:
    return StatusEvent(post.id, 7, value, hlc, origin)


async def stored(queue: Queue, stream: str) -> list[object]:
    keeper = StreamKeeper(queue.link.port)
    try:
        return [entry.event for entry in await keeper.entries(stream, START, 100)]
    finally:
        await keeper.close()


async def test_a_hidden_post_is_gone_until_it_is_shown_again(queue: Queue) -> None:
    post = await accepted(queue)
    assert await queue.bodies([post.id]) == {post.id: post}
    hide, show = status(post, HIDDEN, 5), status(post, VISIBLE, 6)
    assert (await queue.set_status(hide, False, by_author=True)).outcome == "done"
    assert await queue.bodies([post.id]) == {post.id: Gone(7, HIDDEN)}
    assert await queue.standings([post.id, bytes(16)]) == [Standing(post, HIDDEN, 5, True), Standing(None)]
    assert (await queue.set_status(show, True, by_author=True)).outcome == "done"
    assert await queue.bodies([post.id]) == {post.id: post}
    assert await stored(queue, "posts") == [post, hide]
    assert await stored(queue, "celeb") == [show]
    assert await stored(queue, "outbox") == [post, hide, show]


async def test_an_earlier_clock_loses_and_is_told_what_to_be_above(queue: Queue) -> None:
    post = await accepted(queue)
    await queue.set_status(status(post, HIDDEN, 9), False, by_author=True)
    for hlc in (8, 9):
        assert await queue.set_status(status(post, VISIBLE, hlc), False, by_author=True) == ("late", 9)
    assert len(await stored(queue, "outbox")) == 2


async def test_an_author_cannot_change_a_moderation_which_keeps_his_own_choice(queue: Queue) -> None:
    post = await accepted(queue)
    await queue.set_status(status(post, HIDDEN, 5), False, by_author=True)
    await queue.set_status(status(post, MODERATED, 6), False, by_author=False)
    assert (await queue.set_status(status(post, VISIBLE, 7), False, by_author=True)).outcome == "refused"
    assert await queue.standings([post.id]) == [Standing(post, MODERATED, 6, True)]
    assert (await queue.set_status(status(post, VISIBLE, 8), False, by_author=False)).outcome == "done"
    assert await queue.standings([post.id]) == [Standing(post, VISIBLE, 8, False)]


async def test_a_delete_wins_whatever_the_clock(queue: Queue) -> None:
    post = await accepted(queue)
    await queue.accept_delete(DeleteEvent(post.id, 7, HERE), post.ts_us, False)
    assert (await queue.set_status(status(post, VISIBLE, 99), False, by_author=True)).outcome == "deleted"
    await queue.apply_replicated(PEER, "1-1", [status(post, VISIBLE, 100, PEER)])
    assert await queue.bodies([post.id]) == {post.id: Gone(-1, Status.DELETED)}


async def test_replicated_changes_converge_in_any_order(queue: Queue) -> None:
    changes = [(HIDDEN, 5), (MODERATED, 6), (VISIBLE, 7)]
    for number, order in enumerate(itertools.permutations(changes)):
        post = await accepted(queue)
        events = [status(post, value, hlc, PEER) for value, hlc in order]
        await queue.apply_replicated(PEER, f"{number + 1}-0", [*events, events[0]])
        (standing,) = await queue.standings([post.id])
        assert (standing.status, standing.hlc) == (VISIBLE, 7)
        assert await queue.bodies([post.id]) == {post.id: post}


async def test_a_post_that_arrives_after_its_hide_stays_hidden(queue: Queue) -> None:
    post = PostEvent(os.urandom(16), 7, 5, "far", PEER)
    keeper = StreamKeeper(queue.link.port)
    await queue.apply_replicated("eu-west", "7-0", [status(post, HIDDEN, 5, "eu-west")])
    await keeper.archived([], [], [post.id])
    await keeper.close()
    assert 0 < await queue.link.call("TTL", f"status:{post.id.hex()}") <= KEEP_DELETED_S
    await queue.apply_replicated(PEER, "9-0", [post])
    assert await queue.bodies([post.id]) == {post.id: Gone(7, HIDDEN)}


async def test_a_full_stream_refuses_a_change_of_status(queue: Queue) -> None:
    post = await accepted(queue)
    queue.limits = Limits(stream=1)
    with pytest.raises(Backpressure):
        await queue.set_status(status(post, HIDDEN, 5), False, by_author=True)
    assert await queue.standings([post.id]) == [Standing(post)]
