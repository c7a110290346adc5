"""Response heads and the chunked coding, cut anywhere; the reconnect policy as a table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.load.listener import Listener, ReconnectPolicy
from harness.load.stream_response import MAX_HEAD_BYTES, NEVER_S, BadResponse, Chunks, StreamRequest, split_head


def test_a_head_and_what_follows_it() -> None:
    head, rest = split_head(b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nX:y\r\n\r\nid: 1")
    assert head is not None
    assert (head.status, head.is_event_stream, head.is_chunked, rest) == (200, True, False, b"id: 1")
    assert head.headers["x"] == "y"


def test_an_incomplete_head_waits() -> None:
    assert split_head(b"HTTP/1.1 200 OK\r\n") == (None, b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"x" * (MAX_HEAD_BYTES + 1)])
def test_what_is_no_response_is_refused(data: bytes) -> None:
    with pytest.raises(BadResponse):
        split_head(data)


@pytest.mark.parametrize(
    ("value", "seconds"), [("2", 2.0), ("0", 0.0), ("9" * 400, NEVER_S), ("Fri, 07 Jul 2023 00:00:00 GMT", 0.0)]
)
def test_retry_after_in_seconds(value: str, seconds: float) -> None:
    head, _ = split_head(f"HTTP/1.1 503 X\r\nRetry-After: {value}\r\n\r\n".encode())
    assert head is not None
    assert head.retry_after_s == seconds


def test_the_request_names_the_resume_point_only_when_there_is_one() -> None:
    assert b"last-event-id: r.1.2\r\n" in StreamRequest("h:1", "/v1/stream", "t", "r.1.2").http1()
    plain = StreamRequest("h:1", "/v1/stream", "t", "").http1()
    assert b"last-event-id" not in plain
    assert plain.startswith(b"GET /v1/stream HTTP/1.1\r\nhost: h:1\r\n")
    assert b"\r\nauthorization: Bearer t\r\n" in plain
    assert plain.endswith(b"\r\n\r\n")


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=6), st.lists(st.integers(0, 200), max_size=8))
def test_chunks_cut_anywhere(payloads: list[bytes], cuts: list[int]) -> None:
    body = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(p), p) for p in payloads) + b"0\r\n\r\n"
    edges = [0, *sorted(min(c, len(body)) for c in cuts), len(body)]
    chunks = Chunks()
    read = b"".join(chunks.feed(body[a:b]) for a, b in zip(edges, edges[1:], strict=False))  # noqa: RUF007
    assert (read, chunks.ended) == (b"".join(payloads), True)


@pytest.mark.parametrize("body", [b"zz\r\n", b"-1\r\n", b"\r\n", b"1" * 2000])
def test_what_is_no_chunk_is_refused(body: bytes) -> None:
    with pytest.raises(BadResponse):
        Chunks().feed(body)


ASIS = ReconnectPolicy(jitter_s=2.0, honours_retry=False, backoff_s=1.0, backoff_cap_s=2.0, resumes=True)
NO_JITTER = ASIS._replace(jitter_s=0.0, honours_retry=True)
PATIENT = ASIS._replace(honours_retry=True, backoff_s=0.5, backoff_cap_s=60.0)


@pytest.mark.parametrize(
    ("policy", "failures", "retry_ms", "retry_after_s", "u", "wait_s"),
    [
        (ASIS, 0, 2000, 0.0, 0.5, 1.0),  # a stream ended: spread over the jitter, whatever the server asks for
        (NO_JITTER, 0, 2000, 0.0, 0.5, 2.0),  # what the server asks for
        (NO_JITTER, 0, None, 0.0, 0.5, 0.0),
        (PATIENT, 0, 2000, 0.0, 0.5, 3.0),  # both: what it asks for, and spread
        (ASIS, 1, None, 0.0, 1.0, 1.0),  # failed attempts: a random half to all of 1 s, then 2 s
        (ASIS, 2, None, 0.0, 0.0, 1.0),
        (ASIS, 3, None, 0.0, 1.0, 2.0),
        (ASIS, 60, None, 0.0, 1.0, 2.0),  # never more than the cap
        (PATIENT, 6, None, 0.0, 1.0, 16.0),
        (PATIENT, 8, None, 0.0, 1.0, 60.0),
        (PATIENT, 5000, None, 0.0, 0.0, 30.0),
        (NO_JITTER, 1, 1500, 0.0, 1.0, 2.5),
        (ASIS, 1, None, 3.0, 0.0, 3.0),  # Retry-After is the least
        (ASIS, 1, None, 3.0, 0.5, 3.5),
    ],
)
def test_when_a_listener_comes_back(
    policy: ReconnectPolicy, failures: int, retry_ms: int | None, retry_after_s: float, u: float, wait_s: float
) -> None:
    listener = Listener(1, "here")
    listener.failures, listener.retry_ms, listener.retry_after_s = failures, retry_ms, retry_after_s
    assert policy.delay_s(listener, u) == pytest.approx(wait_s)
