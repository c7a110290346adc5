"""The parser against the standard's own examples, its corner cases, any way of cutting the bytes, and two other
parsers: a plain transcription of the standard (`plain_sse_parser.py`), and that of aiohttp-sse-client."""

from __future__ import annotations

import asyncio
import itertools
import random
import sys

import aiohttp
import pytest
from aiohttp_sse_client.client import EventSource
from hypothesis import example, given
from hypothesis import strategies as st
from plain_sse_parser import interpret

from harness.contract.sse_parser import MAX_BYTES, MAX_RETRY_MS, SseEvent, SseParser, TooLong


def parse(data: bytes, *cuts: int) -> tuple[list[SseEvent], str, str | None, int | None]:
    parser = SseParser()
    events: list[SseEvent] = []
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        events += parser.feed(data[start:end])
    return events, parser.last_event_id, parser.first_event_id, parser.retry_ms


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # the standard's examples
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10", "")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [("message", "first event", "1"), ("message", "second event", ""), ("message", " third event", "")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [("message", "", ""), ("message", "\n", "")]),
        (b"data:test\n\ndata: test\n\n", [("message", "test", ""), ("message", "test", "")]),
        # the contract's events
        (
            b'id: r.1.2\nevent: new_post\ndata: {"type":"new_post","id":"a"}\n\n',
            [("new_post", '{"type":"new_post","id":"a"}', "r.1.2")],
        ),
        # line ends, also mixed
        (b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", [("message", "a", ""), ("message", "b", ""), ("message", "c", "")]),
        # fields: unknown ones, a name with a space, case, a line without colon
        (b"datum: x\n data: x\nData: x\nx\n\ndata: y\n\n", [("message", "y", "")]),
        # an event name without data is forgotten at the empty line
        (b"event: lost\n\ndata: a\n\n", [("message", "a", "")]),
        # an id holding NUL is ignored, the id before it stays
        (b"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n", [("message", "a", "1"), ("message", "b", "1")]),
        # the last of several fields counts
        (b"id: 1\nid: 2\nevent: a\nevent: b\ndata: x\n\n", [("b", "x", "2")]),
        # byte order mark: once, at the start only
        (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [("message", "a", "")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        # bytes that are not UTF-8
        (b"data: \xc3(\n\n", [("message", "�(", "")]),
        # cut off by the end of the stream
        (b"data: a\n\nid: 9\nevent: x\ndata: b\n", [("message", "a", "")]),
        (b"", []),
    ],
)
def test_events(data: bytes, expected: list[tuple[str, str, str]]) -> None:
    assert parse(data)[0] == [SseEvent(*e) for e in expected]
    assert parse(data, *range(len(data)))[0] == [SseEvent(*e) for e in expected]


def test_a_block_with_only_an_id_sets_the_last_event_id() -> None:
    events, last, first, retry = parse(b"retry: 2311\nid: us-east.1.41\n\nid: us-east.1.42\n\n")
    assert (events, last, first, retry) == ([], "us-east.1.42", "us-east.1.41", 2311)


def test_an_id_without_its_empty_line_has_no_effect() -> None:
    assert parse(b"id: 1\ndata: a\n\nid: 2\n")[1] == "1"


def test_an_empty_id_resets() -> None:
    assert parse(b"id: 1\ndata: a\n\nid:\ndata: b\n\n")[1] == ""


@pytest.mark.parametrize("value", [b"", b" 1x", b" -1", b" 1.5", b" \xd9\xa1"])
def test_a_retry_that_is_no_number_is_ignored(value: bytes) -> None:
    assert parse(b"retry: 5\nretry:" + value + b"\n\n")[3] == 5


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"0" * 40 + b"7", 7),
        (b"%d" % MAX_RETRY_MS, MAX_RETRY_MS),
        (b"%d" % (MAX_RETRY_MS + 1), MAX_RETRY_MS),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 10_000, MAX_RETRY_MS),
    ],
)
def test_a_retry_may_have_any_number_of_digits(digits: bytes, expected: int) -> None:
    assert parse(b"retry: " + digits + b"\n")[3] == expected


def test_a_retry_counts_at_its_line_end_and_without_an_event() -> None:
    assert parse(b"retry: 5")[3] is None
    assert parse(b"retry: 5\r")[3] == 5


def test_a_resumed_listener_starts_with_its_old_id() -> None:
    parser = SseParser("r.1.7")
    assert parser.feed(b"data: a\n\n") == [SseEvent("message", "a", "r.1.7")]


def test_a_line_without_end_is_refused() -> None:
    parser = SseParser()
    parser.feed(b"x" * MAX_BYTES)
    with pytest.raises(TooLong, match=f"a line of more than {MAX_BYTES} bytes"):
        parser.feed(b"x")


LINE = b"data: " + b"x" * 63 + b"\n"  # 64 bytes of data, with its line feed


def test_an_event_without_end_is_refused() -> None:
    parser = SseParser()
    parser.feed(LINE * (MAX_BYTES // 64))
    [event] = parser.feed(b"\n")
    assert len(event.data) == MAX_BYTES - 1
    parser.feed(LINE * (MAX_BYTES // 64))
    with pytest.raises(TooLong, match=f"data of an event of more than {MAX_BYTES} bytes"):
        parser.feed(b"data: 1\n")


@pytest.mark.parametrize(
    ("data", "most"),
    [
        (b"data: %b\n", MAX_BYTES - 6),
        (b"id: 1\nevent: e\ndata: %b\n\n", MAX_BYTES - 6),
        (b"id: %b\nevent: e\ndata: x\n\n", MAX_BYTES - 4),
        (b": %b\n", MAX_BYTES - 2),
    ],
)
def test_what_is_too_long_is_so_however_it_is_cut(data: bytes, most: int) -> None:
    for cuts in ((), (100_000, MAX_BYTES - 1, MAX_BYTES)):
        parse(data % (b"x" * most), *cuts)
        with pytest.raises(TooLong):
            parse(data % (b"x" * (most + 1)), *cuts)


def test_an_idle_parser_is_small() -> None:
    parser = SseParser()
    parser.feed(b"retry: 1\nid: a\n\n: hb\n\n")
    assert not hasattr(parser, "__dict__")
    assert sys.getsizeof(parser) <= 128


fields = [b"data", b"id", b"event", b"retry", b":", b" ", b"a", b"7", b"\0"]
line_ends = [b"\n", b"\r", b"\r\n", b"\n\n"]
others = [b"\xef\xbb\xbf", b"\xc3\xa9", b"\xff", b"id: r.1.2\nevent: new_post\ndata: x\n\n", b": hb\n\n"]
pieces = st.sampled_from([*fields, *line_ends, *others])
streams = st.lists(pieces, max_size=30).map(b"".join)


@given(streams, st.lists(st.integers(0, 200), max_size=12))
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [8, 10])
@example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])
def test_any_cutting_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    assert parse(data, *(min(c, len(data)) for c in cuts)) == parse(data)


@given(streams)
def test_the_fast_path_gives_what_the_line_by_line_path_gives(data: bytes) -> None:
    """Fed byte by byte, no whole event is ever seen at once."""
    assert parse(data, *range(len(data))) == parse(data)


numbers = st.text(alphabet="0123456789", min_size=1, max_size=25).map(str.encode)
names = st.sampled_from([b"data", b"id", b"event", b"retry", b"", b"Data", b"data ", b"\xef\xbb\xbfdata"])
colons = st.sampled_from([b":", b": ", b":  ", b""])
values = st.one_of(
    numbers, st.binary(max_size=8), st.sampled_from([b"", b"r.1.2", b"\0", b"\xe2\x82", b"\xf0\x9f\x98\x80"])
)
lines = st.builds(lambda *parts: b"".join(parts), names, colons, values, st.sampled_from(line_ends))
written = st.lists(st.one_of(lines, pieces), max_size=25).map(b"".join)
starts = st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf", b"\xef\xbb"])


@given(
    starts,
    st.one_of(written, st.binary(max_size=80)),
    st.lists(st.integers(0, 400), max_size=12),
    st.sampled_from(["", "r.1.7"]),
)
def test_a_plain_transcription_of_the_standard_comes_to_the_same(
    start: bytes, rest: bytes, cuts: list[int], last_event_id: str
) -> None:
    data = start + rest
    expected = interpret(data, last_event_id)
    parser = SseParser(last_event_id)
    events: list[SseEvent] = []
    for begin, end in itertools.pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        events += parser.feed(data[begin:end])
    assert [tuple(event) for event in events] == expected.events
    assert parser.last_event_id == expected.last_event_id
    assert parser.retry_ms == (None if (ms := expected.reconnection_ms) is None else min(ms, MAX_RETRY_MS))


def a_tidy_stream(blocks: int) -> bytes:
    """Blocks as aiohttp-sse-client reads them right: lines end with LF or CR LF, no NUL, data in each block."""
    chance = random.Random(7)
    made = []
    for number in range(blocks):
        lines = [f"data: {chance.choice(['', 'two ', 'wörds', 'a: b'])}{number}" for _ in range(chance.randint(1, 3))]
        lines += [f"id: r.1.{number}"] if chance.random() < 0.8 else []
        lines += [chance.choice(["event: new_post", "event:resync"])] if chance.random() < 0.8 else []
        lines += [chance.choice([": hb", "unknown: x", "datum"])] if chance.random() < 0.3 else []
        chance.shuffle(lines)
        end = chance.choice(["\n", "\r\n"])
        made.append(end.join([*lines, "", ""]))
    return "".join(made).encode()


async def test_aiohttp_sse_client_reads_the_same_where_it_is_right() -> None:
    body = a_tidy_stream(300)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for place in range(0, len(body), 97):
            writer.write(body[place : place + 97])
            await asyncio.sleep(0)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    read: list[tuple[str, str, str]] = []
    async with aiohttp.ClientSession() as session, EventSource(url, session=session) as source:
        async for event in source:
            read.append((event.type or "message", event.data, event.last_event_id))
            if len(read) == 300:
                break
    server.close()
    assert read == [tuple(event) for event in parse(body, 1, 50, 500)[0]]
