"""Requests for a stream, well-formed and not, as bytes; and what a server may answer to them."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from hypothesis import strategies as st

ANSWER_LIMIT_S = 5.0
"""below the time a server gives to a head that does not end: each of these ends"""
END = b"\r\n\r\n"


class Wanted(Enum):
    """What the answer must be."""

    STREAM = "200"
    UNAUTHORIZED = "401"
    ANY = "200, 4xx or 503"


class Request(NamedTuple):
    """Bytes to send, and what is to come of it."""

    raw: bytes
    wanted: Wanted


class Answer(NamedTuple):
    """The head of an answer, and what came with it."""

    status: int
    headers: Mapping[str, str]
    rest: bytes


_visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60)
_value = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=300)
_name = st.from_regex(r"X-[A-Za-z0-9!#$%&'*+.^_`|~-]{0,20}", fullmatch=True)
_query = st.one_of(st.just(""), _visible.map(lambda text: "?" + text))
_ids = st.one_of(
    _value,
    st.builds("{}.{}.{}".format, st.sampled_from(["us-east", "ap-tokyo", "", "x"]), st.integers(), st.integers()),
    st.builds("{}.{}".format, st.sampled_from(["us-east.1", "us-east", "memory"]), st.integers(0, 1 << 70)),
)


def _changed(token: str) -> st.SearchStrategy[str]:
    """The token with one character replaced, cut, or something put at its end."""
    places = st.integers(0, len(token) - 1)
    replaced = st.builds(lambda at, text: token[:at] + text + token[at + 1 :], places, _visible)
    cut = places.map(lambda at: token[:at])
    longer = _visible.map(lambda text: token + text)
    return st.one_of(replaced, cut, longer).filter(lambda text: text != token)


def _head(target: str, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"GET {target} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("latin-1") + END


def requests(token: str) -> st.SearchStrategy[Request]:
    """Requests of a user with a good token: good ones, such with other tokens, and damaged ones."""
    others = st.lists(st.tuples(_name, _value), max_size=6)
    last = st.one_of(st.none(), _ids).map(lambda text: [] if text is None else [("Last-Event-ID", text)])
    targets = _query.map(lambda query: "/v1/stream" + query)

    def with_tokens(tokens: st.SearchStrategy[str | None], wanted: Wanted) -> st.SearchStrategy[Request]:
        allowed = tokens.map(lambda text: [] if text is None else [("Authorization", text)])
        headers = st.builds(lambda *parts: [pair for part in parts for pair in part], others, allowed, last)
        return st.builds(_head, targets, headers).map(lambda raw: Request(raw, wanted))

    good = with_tokens(st.just(f"Bearer {token}"), Wanted.STREAM)
    changed = _changed(token).map(lambda text: f"Bearer {text}")
    strangers = with_tokens(st.one_of(st.none(), _value.map("Basic {}".format), changed), Wanted.UNAUTHORIZED)
    damaged = st.one_of(good, strangers).flatmap(_damaged)
    garbage = st.binary(max_size=400).map(lambda raw: Request(raw + END, Wanted.ANY))
    return st.one_of(good, strangers, damaged, garbage)


def _damaged(request: Request) -> st.SearchStrategy[Request]:
    """Something else in place of a few bytes; it still ends as a head ends."""
    raw = request.raw.removesuffix(END)
    return st.builds(
        lambda at, length, put: Request(raw[:at] + put + raw[at + length :] + END, Wanted.ANY),
        st.integers(0, len(raw)),
        st.integers(0, 30),
        st.binary(max_size=30),
    )


def ask(port: int, raw: bytes) -> Answer:
    """Send it; the answer, with what came of a stream's first block. Fails when there is none in time."""
    with socket.create_connection(("127.0.0.1", port), ANSWER_LIMIT_S) as connection:
        connection.sendall(raw)
        data = b""
        while not _is_whole(data):
            received = connection.recv(1 << 16)
            assert received, f"it broke off after {data!r}"
            data += received
    head, _, rest = data.partition(END)
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(int(first.split(" ")[1]), headers, rest)


def _is_whole(data: bytes) -> bool:
    head, end, rest = data.partition(END)
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":-1")
    if not end:
        return False
    return b"\n\n" in rest if int(length.partition(b":")[2]) < 0 else len(rest) >= int(length.partition(b":")[2])


def judge(request: Request, answer: Answer) -> None:
    """The answer is one that the contract knows, and the one this request must have."""
    if request.wanted is not Wanted.ANY:
        busy = answer.status == 503
        assert busy or answer.status == int(request.wanted.value)
    if answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream"):
        assert b"\nid: " in answer.rest
        return
    if answer.status == 200:  # another path, by chance
        assert request.wanted is Wanted.ANY
        return
    assert 400 <= answer.status < 500 or answer.status == 503, answer
    assert answer.headers["content-type"] == "application/problem+json"
    document = json.loads(answer.rest)
    assert document["status"] == answer.status
    assert document.keys() >= {"type", "title", "detail"}
    assert answer.status != 503 or int(answer.headers["retry-after"]) >= 1
