"""Cases of the faults on stores and edges, each on a real one, with a look from outside at its effect."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from chaos_targets import HERE, Case, Target, assert_as_before, end, free_port, supervised, talk, wait_for

from chaos.flags import Flags, FlagValue

RECORDS = 20
ENTRIES = 3000
CONNECTIONS = 12
TOKEN = "token-of-a-test-user"


def store_case(request: pytest.FixtureRequest, name: str) -> Case:
    """A kind on a target of its own, which ends with the test."""
    folder: Path = request.getfixturevalue("tmp_path")
    return _CASES[name](request, folder)


def _target(request: pytest.FixtureRequest, folder: Path, name: str, *command: str) -> Target:
    target = supervised(folder, name, int(command[-1]), list(command[:-1]))
    request.addfinalizer(lambda: end(target.supervisor))
    return target


def _python(request: pytest.FixtureRequest, folder: Path, program: str, *words: str) -> Target:
    port = str(free_port())
    return _target(request, folder, program, sys.executable, str(HERE / f"{program}.py"), port, *words, port)


def _checked(case: Case, check: Callable[[], bool]) -> Case:
    """The case, with one more thing that must be as before."""

    def as_before() -> None:
        assert_as_before(Case(case.kind, case.target, case.active))
        assert check()

    case.as_before = as_before
    return case


def soon(condition: Callable[[], bool], within_s: float) -> bool:
    """Whether the condition holds at some moment of that time."""
    try:
        wait_for(condition, within_s)
    except AssertionError:
        return False
    return True


# --- the durable store


def can_write(path: Path, within_s: float = 0.0) -> bool:
    db = sqlite3.connect(path, isolation_level=None, timeout=within_s)
    try:
        db.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    finally:
        db.close()
    return True


def durable_target(request: pytest.FixtureRequest, folder: Path) -> Target:
    """A service, and the SQLite file that it could have, in WAL mode and open."""
    target: Target = request.getfixturevalue("service")
    path = folder / "durable.db"
    db = sqlite3.connect(path, isolation_level=None)
    request.addfinalizer(db.close)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE posts(id INTEGER)")
    target.handle["durable"] = str(path)
    return target


def _durable_lock(request: pytest.FixtureRequest, folder: Path) -> Case:
    target = durable_target(request, folder)
    path = Path(target.handle["durable"])
    return _checked(Case("durable-lock", target, lambda: not can_write(path, 0.2)), lambda: can_write(path))


def _durable_slow(request: pytest.FixtureRequest, folder: Path) -> Case:
    target = durable_target(request, folder)
    path = Path(target.handle["durable"])

    def is_locked_at_times() -> bool:
        return soon(lambda: not can_write(path), 0.5)

    case = Case("durable-slow", target, is_locked_at_times, {"period": "500ms", "duty": 0.6})
    return _checked(case, lambda: not is_locked_at_times())


# --- the queue


def write_reply(port: int, timeout_s: float = 0.3) -> bytes:
    """What redis says to a write; empty: nothing in time."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as sock:
        sock.sendall(b"INCR writes\r\n")
        try:
            return sock.recv(100)
        except TimeoutError:
            return b""


def queue_target(request: pytest.FixtureRequest, folder: Path) -> Target:
    """A supervised redis."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    port = str(free_port())
    target = _target(request, folder, "queue", binary, "--port", port, "--bind", "127.0.0.1", "--save", "", port)
    target.handle["redis"] = f"127.0.0.1:{port}"
    return target


def _queue_pause(request: pytest.FixtureRequest, folder: Path) -> Case:
    target = queue_target(request, folder)
    case = Case("queue-pause", target, lambda: not write_reply(target.port))
    return _checked(case, lambda: write_reply(target.port).startswith(b":"))


# --- the flags


def flags_target(request: pytest.FixtureRequest, folder: Path) -> Target:
    """A service with flags, its operator's token in a file."""
    token_file = folder / "operator.token"
    token_file.write_text("token-of-a-test-operator\n")
    target = _python(request, folder, "stub_flags", str(folder / "flags.json"), str(token_file))
    target.handle["flags"] = f"http://127.0.0.1:{target.port}/v1/operator/flags"
    target.handle["operator_token_file"] = str(token_file)
    return target


def flag_values(target: Target) -> dict[str, FlagValue]:
    """What all flags are set to."""
    told = Flags(target.handle["flags"], target.handle["operator_token_file"]).read()
    return {name: flag.value for name, flag in told.items()}


def _flag(request: pytest.FixtureRequest, folder: Path) -> Case:
    target = flags_target(request, folder)
    before = flag_values(target)
    case = Case("flag", target, lambda: flag_values(target)["kill_switch"] is True, {"set": "kill_switch=on"})
    return _checked(case, lambda: flag_values(target) == before)


# --- the log


def log_target(request: pytest.FixtureRequest, folder: Path) -> Target:
    """A service with a RocksDB log of RECORDS records."""
    log = folder / "logs"
    log.mkdir()
    target = _python(request, folder, "stub_log", str(log))
    target.handle["log"] = str(log)
    for number in range(RECORDS):
        assert talk(target.port, b"add\n") == b"%d\n" % (number + 1)
    return target


def _torn_log_tail(request: pytest.FixtureRequest, folder: Path) -> Case:
    target = log_target(request, folder)
    (log,) = Path(target.handle["log"]).glob("0/*.log")
    size = log.stat().st_size

    def is_torn() -> bool:
        return target.leader is None and log.stat().st_size < size

    kept = (b"%d\n" % RECORDS, b"%d\n" % (RECORDS - 1))
    return _checked(Case("torn-log-tail", target, is_torn), lambda: talk(target.port, b"count\n") in kept)


def disk_target(request: pytest.FixtureRequest, folder: Path) -> Target:
    """A service that alone sees a small disk of its own."""
    disk = folder / "disk"
    disk.mkdir()
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine allows no mount namespaces")
    port = str(free_port())
    script = 'mount -t tmpfs -o size=8m tmpfs "$3" && exec "$0" "$1" "$2" "$3"'
    words = ("unshare", "--mount", "sh", "-c", script, sys.executable, str(HERE / "stub_disk.py"), port, str(disk))
    target = _target(request, folder, "disk", *words, port)
    target.handle["log"] = str(disk)
    return target


def _disk_full(request: pytest.FixtureRequest, folder: Path) -> Case:
    target = disk_target(request, folder)
    case = Case("disk-full", target, lambda: talk(target.port) == b"ENOSPC\n")
    return _checked(case, lambda: talk(target.port) == b"written\n")


# --- the cache


def cache_keys(port: int) -> list[str]:
    """All keys of a memcached."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"lru_crawler metadump all\r\n")
        with sock.makefile("rb") as replies:
            lines = list(iter(replies.readline, b"END\r\n"))
    return [unquote(line.split()[0].decode().removeprefix("key=")) for line in lines]


def evictions(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"stats\r\n")
        with sock.makefile("rb") as replies:
            lines = iter(replies.readline, b"END\r\n")
            return next(int(line.split()[2]) for line in lines if line.startswith(b"STAT evictions "))


def fill_cache(port: int) -> None:
    """Entries of two sizes that are the target's."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        for number in range(ENTRIES):
            size = 200 if number % 10 else 3000
            sock.sendall(b"set mine:%d 0 0 %d noreply\r\n%b\r\n" % (number, size, bytes(size)))
        sock.sendall(b"mn\r\n")
        assert sock.recv(100) == b"MN\r\n"


def _cache_eviction(request: pytest.FixtureRequest, folder: Path) -> Case:
    cache: Target = request.getfixturevalue("cache")
    fill_cache(cache.port)

    def is_stormy() -> bool:
        return soon(lambda: evictions(cache.port) > ENTRIES * 0.3, 5.0)

    def has_only_its_own() -> bool:
        return all(key.startswith("mine:") for key in cache_keys(cache.port))

    return _checked(Case("cache-eviction", cache, is_stormy), has_only_its_own)


# --- the edge


def edge_target(request: pytest.FixtureRequest, folder: Path) -> Target:
    """A supervised edge with one user."""
    target = _python(request, folder, "stub_streams", TOKEN)
    tokens = folder / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(f"{TOKEN}\n")
    target.handle |= {"stream": f"http://127.0.0.1:{target.port}/v1/stream", "token_file": str(tokens)}
    return target


def unread_streams(port: int) -> int:
    """Streams to the port whose client end has unread bytes, as `ss` sees it."""
    told = subprocess.run(
        ["ss", "-Htn", "state", "established", f"( dport = :{port} )"], capture_output=True, text=True, check=True
    )
    return sum(int(line.split()[0]) > 0 for line in told.stdout.splitlines())


def _slow_readers(request: pytest.FixtureRequest, folder: Path) -> Case:
    target = edge_target(request, folder)
    case = Case("slow-readers", target, lambda: unread_streams(target.port) == CONNECTIONS, {"streams": CONNECTIONS})
    return _checked(case, lambda: unread_streams(target.port) == 0)


def feed_target(request: pytest.FixtureRequest, folder: Path) -> Target:
    """A supervised feed with one user."""
    target = _python(request, folder, "stub_feed", TOKEN)
    tokens = folder / "tokens"
    tokens.touch(mode=0o600)
    tokens.write_text(f"{TOKEN}\n")
    target.handle |= {"reads": f"http://127.0.0.1:{target.port}/v1/feed", "token_file": str(tokens)}
    return target


def pages_served(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/served", timeout=5) as answer:
        return int(answer.read())


def _greedy_client(request: pytest.FixtureRequest, folder: Path) -> Case:
    target = feed_target(request, folder)

    def is_asked(within_s: float) -> bool:
        before = pages_served(target.port)
        return soon(lambda: pages_served(target.port) > before, within_s)

    case = Case("greedy-client", target, lambda: is_asked(0.5), {"rate": "200/s"})
    return _checked(case, lambda: not is_asked(0.3))


def _mass_disconnect(request: pytest.FixtureRequest, folder: Path) -> Case:
    if os.geteuid() != 0:
        pytest.skip("to end others' connections takes root")
    target: Target = request.getfixturevalue("service")
    target.handle["stream"] = f"http://127.0.0.1:{target.port}/"
    clients = [socket.create_connection(("127.0.0.1", target.port), timeout=5) for _ in range(CONNECTIONS)]
    for client in clients:
        request.addfinalizer(client.close)
        client.sendall(b"hi\n")
        assert client.recv(100) == b"got hi\n"
        client.setblocking(False)
    return Case("mass-disconnect", target, lambda: all(map(_is_cut, clients)), lasting=False)


def _is_cut(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def _buffering_proxy(request: pytest.FixtureRequest, folder: Path) -> Case:
    link: Target = request.getfixturevalue("link")

    def holds_back() -> bool:
        try:
            return not talk(link.port, timeout_s=0.3)
        except TimeoutError:
            return True

    return Case("buffering-proxy", link, holds_back)


_CASES: dict[str, Callable[[pytest.FixtureRequest, Path], Case]] = {
    "durable-lock": _durable_lock,
    "durable-slow": _durable_slow,
    "queue-pause": _queue_pause,
    "flag": _flag,
    "torn-log-tail": _torn_log_tail,
    "disk-full": _disk_full,
    "cache-eviction": _cache_eviction,
    "slow-readers": _slow_readers,
    "greedy-client": _greedy_client,
    "mass-disconnect": _mass_disconnect,
    "buffering-proxy": _buffering_proxy,
}
