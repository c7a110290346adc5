"""Faults on stores and edges, of the real stack: each is seen, does what it says, and is gone after its undo."""

from __future__ import annotations

import socket
import sqlite3
import ssl
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flag_stack import HOME, FlagStack, read_to_end, read_until
from real_servers import wait_until
from stack_process import StackProcess

from chaos.faults import KINDS
from chaos.handles import parse_handle
from chaos.kind import parse_parameters
from chaos.processes import read_pid_file

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(240)]
ONLY = "graph,fanout,jobs,api,fep,edge"
LINK = f"{HOME}.edge-to-fep"
POSTS = 30
DISK_MB = 16
"""less than RocksDB would set aside for one lane"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlagStack]:
    folder = tmp_path_factory.mktemp("stores") / "stack"
    shape = ("--regions", HOME, "--only", ONLY, "--users", "60", "--proxy", LINK)
    small = ("--wal-tmpfs-mb", str(DISK_MB), "--flag", "cache_mb=16")
    started = StackProcess(folder, *shape, *small).await_ready()
    stack = FlagStack(started)
    yield stack
    stack.http.close()
    started.end()
    for stream in (started.process.stdin, started.process.stdout, started.process.stderr):
        assert stream is not None
        stream.close()


@contextmanager
def broken(stack: FlagStack, kind_name: str, handle: str, hold_s: float = 5.0, **params: Any) -> Iterator[None]:
    """The block runs under the fault, which is seen, and was not before; undone after it."""
    kind = KINDS[kind_name]
    parsed, problems = parse_parameters(kind, params)
    assert not problems
    table = stack.stack.endpoints["handles"][handle]
    plan = kind.plan(parse_handle(handle, table), parsed)
    assert not kind.witness(plan, 1.2).ok
    kind.inject(plan)
    try:
        witness = kind.witness(plan, hold_s)
        assert witness.ok, witness.evidence
        yield
    finally:
        kind.undo(plan)


@pytest.fixture
def pair(stack: FlagStack) -> tuple[int, int]:
    """An author and a follower who listens to nobody else."""
    author, follower = stack.joined(2)
    stack.follow([follower], author)
    return author, follower


def shows(stack: FlagStack, follower: int, posts: list[str], within_s: float = 20) -> None:
    wait_until(lambda: set(posts) <= set(stack.walk(follower)), "the follower has every post", within_s)


def archived(stack: FlagStack, post: str) -> bool:
    path = stack.stack.endpoints["handles"][f"{HOME}.jobs"]["durable"]
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return db.execute("SELECT 1 FROM posts WHERE id = ?", (uuid.UUID(post).bytes,)).fetchone() is not None
    finally:
        db.close()


def test_a_locked_store_delays_the_archive_only(stack: FlagStack, pair: tuple[int, int]) -> None:
    author, follower = pair
    before = stack.post(author)
    wait_until(lambda: archived(stack, before), "a post is archived")
    with broken(stack, "durable-lock", f"{HOME}.jobs"):
        post = stack.post(author)
        shows(stack, follower, [post])
        assert not archived(stack, post)
    wait_until(lambda: archived(stack, post), "it is archived in the end", 15)


def test_a_slow_store_archives_all(stack: FlagStack, pair: tuple[int, int]) -> None:
    author, _ = pair
    with broken(stack, "durable-slow", f"{HOME}.jobs", duty=0.8, period="1s"):
        post = stack.post(author)
        wait_until(lambda: archived(stack, post), "it is archived under the fault", 15)


def test_a_paused_queue_takes_no_post_and_loses_none(stack: FlagStack, pair: tuple[int, int]) -> None:
    author, follower = pair
    before = stack.post(author)
    shows(stack, follower, [before])
    key = {"Idempotency-Key": "under-the-pause", "Authorization": f"Bearer {stack.tokens[author]}"}
    url = f"{stack.regions[HOME]['api']}/v1/posts"
    with broken(stack, "queue-pause", f"{HOME}.redis-queue"):
        answer = stack.http.post(url, json={"text": "later"}, headers=key)
        assert answer.status_code == 504  # nobody can tell yet
        assert before in stack.feed(follower)
    again = wait_until(
        lambda: (a := stack.http.post(url, json={"text": "later"}, headers=key)).is_success and a, "posts are taken", 15
    )
    shows(stack, follower, [again.json()["post"]["id"]])


def test_a_full_disk_stops_the_lanes_and_loses_no_post(stack: FlagStack, pair: tuple[int, int]) -> None:
    author, follower = pair
    posts = [stack.post(author)]
    shows(stack, follower, posts)

    def fails() -> bool:
        posts.append(stack.post(author, "some more of it"))
        return "No space left" in log_text(stack)

    with broken(stack, "disk-full", f"{HOME}.fanout"):
        wait_until(fails, "the lanes' owner meets the full disk", 60)
    shows(stack, follower, posts, 40)
    assert "is damaged" not in log_text(stack)


def log_text(stack: FlagStack) -> str:
    """All that the owner of the lanes has said."""
    return (stack.stack.stack.path / "logs" / f"{HOME}.fanout-0.log").read_text()


@pytest.mark.parametrize("how", ["cut", "garbage"])
def test_a_torn_log_loses_no_post(stack: FlagStack, pair: tuple[int, int], how: str) -> None:
    author, follower = pair
    posts = [stack.post(author) for _ in range(POSTS)]
    shows(stack, follower, posts)
    with broken(stack, "torn-log-tail", f"{HOME}.fanout", how=how):
        posts.append(stack.post(author))
    shows(stack, follower, posts, 40)


def test_an_eviction_storm_costs_no_read(stack: FlagStack, pair: tuple[int, int]) -> None:
    author, follower = pair
    posts = [stack.post(author) for _ in range(POSTS)]
    shows(stack, follower, posts)
    with broken(stack, "cache-eviction", f"{HOME}.memcached", hold_s=15, share=1.0):
        assert set(posts) <= set(stack.walk(follower))
    assert set(posts) <= set(stack.walk(follower))


def test_slow_readers_are_users_of_the_stack(stack: FlagStack, pair: tuple[int, int], tmp_path: Path) -> None:
    author, follower = pair
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{stack.tokens[follower]}\n")
    handle = f"{HOME}.fep"
    kind = KINDS["slow-readers"]
    parsed, _ = parse_parameters(kind, {"streams": 8})
    table = {**stack.stack.endpoints["handles"][handle], "token_file": str(tokens)}
    plan = kind.plan(parse_handle(handle, table), parsed)
    before = stack.value("fep-0", "feed_streams_open")
    with stack.stream(follower) as listener:
        kind.inject(plan)
        try:
            assert kind.witness(plan, 5).ok
            stack.rises("fep-0", "feed_streams_open", before + 8, "the readers are counted")
            read_until(listener, stack.post(author).encode())  # who reads gets what there is
        finally:
            kind.undo(plan)
    wait_until(lambda: stack.value("fep-0", "feed_streams_open") <= before, "they are gone")


def test_a_mass_disconnect_cuts_every_stream(stack: FlagStack, pair: tuple[int, int]) -> None:
    author, follower = pair
    with stack.stream(follower) as one, stack.stream(author) as other:
        kind = KINDS["mass-disconnect"]
        handle = f"{HOME}.fep"
        plan = kind.plan(parse_handle(handle, stack.stack.endpoints["handles"][handle]), {})
        kind.inject(plan)
        witness = kind.witness(plan, 5)
        assert witness.ok, witness.evidence
        for stream in (one, other):
            with pytest.raises(ConnectionResetError):
                read_to_end(stream)
    with stack.stream(follower) as again:
        read_until(again, stack.post(author).encode())


def test_a_buffering_proxy_holds_events_back(stack: FlagStack, pair: tuple[int, int]) -> None:
    author, follower = pair
    with broken(stack, "buffering-proxy", LINK), edge_stream(stack, follower) as stream:
        stack.post(author)
        stream.settimeout(1.0)
        with pytest.raises(TimeoutError):
            stream.recv(1)

    def is_told() -> bool:
        with edge_stream(stack, follower) as stream:
            head = stream.recv(200)
            if head.startswith(b"HTTP/1.1 200"):
                read_until(stream, stack.post(author).encode())
        return head.startswith(b"HTTP/1.1 200")

    wait_until(is_told, "the edge has found the fep again", 20)


@contextmanager
def edge_stream(stack: FlagStack, user: int) -> Iterator[Any]:
    """A stream through the region's edge; nothing of it is read."""
    url = urlsplit(stack.regions[HOME]["edge"])
    trusted = ssl.create_default_context(cafile=stack.stack.endpoints["ca_file"])
    raw = socket.create_connection((str(url.hostname), url.port or 443), timeout=10)
    with trusted.wrap_socket(raw, server_hostname=str(url.hostname)) as stream:
        head = f"GET /v1/stream HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {stack.tokens[user]}\r\n\r\n"
        stream.sendall(head.encode())
        yield stream


def test_the_handles_name_what_they_are(stack: FlagStack) -> None:
    handles = stack.stack.endpoints["handles"]
    named = {
        field: sorted(name.removeprefix(f"{HOME}.") for name, table in handles.items() if field in table)
        for field in ("redis", "durable", "log", "stream")
    }
    assert named == {"redis": ["redis-cache", "redis-queue"], "durable": ["jobs"], "log": ["fanout"], "stream": ["fep"]}


def test_nothing_is_mounted_for_others(stack: FlagStack) -> None:
    """The small disks are the stack's own."""
    folder = stack.stack.endpoints["handles"][f"{HOME}.fanout"]["log"]
    assert folder not in Path("/proc/mounts").read_text()
    owner = read_pid_file(stack.stack.endpoints["handles"][f"{HOME}.fanout"]["pid_file"])
    assert owner is not None
    assert f"{folder} tmpfs" in Path(f"/proc/{owner.identity.pid}/mounts").read_text()
