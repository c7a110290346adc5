"""The parser against the standard's own examples, its corner cases, and any way of cutting the bytes."""

from __future__ import annotations

import itertools
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.contract.sse_parser import MAX_LINE_BYTES, LineTooLong, SseEvent, SseParser


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


def test_a_resumed_listener_starts_with_its_old_id() -> None:
    parser = SseParser("r.1.7")
    assert parser.feed(b"data: a\n\n") == [SseEvent("message", "a", "r.1.7")]


def test_a_line_without_end_is_refused() -> None:
    parser = SseParser()
    parser.feed(b"x" * MAX_LINE_BYTES)
    with pytest.raises(LineTooLong):
        parser.feed(b"x")


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
