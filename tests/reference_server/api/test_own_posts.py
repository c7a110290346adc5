"""The line to redis-queue on which each page asks for its reader's newest posts."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest
from api_region import eventually
from hypothesis import given
from hypothesis import strategies as st
from real_servers import Server

from reference_server.api import own_posts
from reference_server.api.own_posts import Answer, OwnPosts, read_reply
from reference_server.events import DeleteEvent
from reference_server.queue import Queue, QueueUnavailable, RecentPost
from reference_server.timeline.display import Key

POST = RecentPost(1_700_000_000_000_000, bytes(range(16)))


async def ask(own: OwnPosts, user: int) -> list[RecentPost] | None:
    """None: not known."""
    answer = own.ask(user)
    try:
        return await answer if isinstance(answer, asyncio.Future) else at_hand(answer)
    except QueueUnavailable:
        return None


def at_hand(answer: Iterator[Key] | Answer | None) -> list[RecentPost] | None:
    """None: redis must be asked, or is away."""
    if answer is None or isinstance(answer, asyncio.Future):
        return None
    return [RecentPost(*post) for post in answer]


async def accept(queue: Queue, author: int, number: int) -> RecentPost:
    accepted = await queue.accept_post(author, number.to_bytes(16, "big"), "text", b"", None, False, number, "here")
    return RecentPost(accepted.ts_us, accepted.id)


async def test_it_answers_as_the_queue_does(redis: Server) -> None:
    own, queue = OwnPosts(redis.port), Queue(redis.port)
    await own.wait_connected(5)
    posts = [await accept(queue, 1, number) for number in range(1, 250)]
    assert await asyncio.gather(*(ask(own, user) for user in (1, 2, 1))) == [posts[:-201:-1], [], posts[:-201:-1]]
    assert await queue.recent(1) == posts[:-201:-1]
    await own.close()
    await queue.close()


async def test_a_server_that_is_gone_or_silent_fails_calls_soon_and_is_found_again(redis: Server) -> None:
    own = OwnPosts(redis.port)

    async def answers() -> bool:
        return await ask(own, 1) is not None

    async def is_away() -> bool:
        return own.ask(1) is None

    await own.wait_connected(5)
    assert await ask(own, 1) == []
    redis.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(2):
            assert await ask(own, 1) is None
            assert own.ask(1) is None
    finally:
        redis.signal(signal.SIGCONT)
    await eventually(answers, "redis answers again")
    redis.kill()
    await eventually(is_away, "the loss is noticed", 2)
    redis.start()
    await eventually(answers, "redis answers again")
    await own.close()


async def test_the_only_api_of_a_region_asks_once_an_author(redis: Server) -> None:
    own, queue = OwnPosts(redis.port, alone=True), Queue(redis.port)
    await own.wait_connected(5)
    posts = [await accept(queue, 1, number) for number in range(1, 4)]
    assert await ask(own, 1) == posts[::-1]
    for number in range(4, 300):
        posts.append(await accept(queue, 1, number))
        own.accepted(1, posts[-1])
    assert at_hand(own.ask(1)) == posts[:-201:-1] == await queue.recent(1)
    gone = posts.pop(-2)
    await queue.accept_delete(DeleteEvent(gone.id, 1, "here"), gone.ts_us, False)
    own.deleted(1, gone.id)
    assert at_hand(own.ask(1)) == await queue.recent(1)

    async def accept_without_answer() -> None:
        with own.changing(1):
            await accept(queue, 1, 300)
            raise QueueUnavailable("no answer", definite=False)

    with pytest.raises(QueueUnavailable):
        await accept_without_answer()
    assert at_hand(own.ask(1)) is None
    assert await ask(own, 1) == await queue.recent(1)
    await own.close()
    await queue.close()


async def test_what_is_kept_is_bounded(redis: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_posts, "BYTES_KEPT", 5 * 24)
    own, queue = OwnPosts(redis.port, alone=True), Queue(redis.port)
    await own.wait_connected(5)
    for author in (1, 2, 3):
        for number in (1, 2):
            await accept(queue, author, 10 * author + number)
        assert len(await ask(own, author) or ()) == 2
    assert [at_hand(own.ask(author)) is None for author in (1, 2, 3)] == [True, False, False]
    assert await ask(own, 1) == await queue.recent(1)
    await own.close()
    await queue.close()


async def test_an_answer_from_before_a_change_is_not_kept(redis: Server) -> None:
    own, queue = OwnPosts(redis.port, alone=True), Queue(redis.port)
    await own.wait_connected(5)
    asked = ask(own, 1), ask(own, 2)
    asking = [asyncio.ensure_future(one) for one in asked]
    await asyncio.sleep(0)
    own.accepted(3, POST)
    assert await asyncio.gather(*asking) == [[], []]
    assert at_hand(own.ask(1)) is None
    assert await ask(own, 2) == []
    assert at_hand(own.ask(2)) == []
    await own.close()
    await queue.close()


def reply_of(posts: list[RecentPost]) -> bytes:
    members = [b"%d:%b" % (post.ts_us, post.id.hex().encode()) for post in posts]
    return b"*%d\r\n" % len(posts) + b"".join(b"$%d\r\n%b\r\n" % (len(member), member) for member in members)


@given(st.integers(0, 5), st.binary(max_size=20))
def test_a_reply_is_read_when_it_is_whole_and_not_before(count: int, behind: bytes) -> None:
    reply = reply_of([POST] * count)
    assert read_reply(bytearray(reply + behind), 0) == ([POST] * count, len(reply))
    for size in range(len(reply)):
        assert read_reply(bytearray(reply[:size]), 0) == (None, 0)


@given(st.binary(max_size=100))
def test_anything_else_is_refused_or_waited_for(data: bytes) -> None:
    try:
        read_reply(bytearray(data), 0)
    except own_posts._Garbled:
        pass


@pytest.mark.parametrize("line", [b"-ERR no\r\n", b"+OK\r\n", b"*x\r\n", b"*1\r\n$3\r\nabc\r\n"])
def test_what_no_list_of_posts_is_is_garbled(line: bytes) -> None:
    with pytest.raises(own_posts._Garbled):
        read_reply(bytearray(line), 0)
