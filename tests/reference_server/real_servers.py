"""Real processes for tests: on free ports, restartable, ended with the test, and with it also when it is killed."""

from __future__ import annotations

import asyncio
import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from reference_server.parent import die_with_parent
from reference_server.supervisor.ports import Ports

DEADLINE_S = 30.0

_ports = Ports()
atexit.register(_ports.close)


def free_port() -> int:
    """A port that no other test gets as long as this process lives, and no client's socket takes meanwhile."""
    return _ports.take()


def wait_until(condition: Callable[[], Any], what: str, limit_s: float = DEADLINE_S, every_s: float = 0.01) -> Any:
    """The condition's first true value; fails the test when it has none within the limit. Looks each `every_s`."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {limit_s:g} s: {what}")
        time.sleep(every_s)
    return value


async def until(condition: Callable[[], Any], what: str, limit_s: float = DEADLINE_S) -> Any:
    """The same, while the event loop runs."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {limit_s:g} s: {what}")
        await asyncio.sleep(0.005)
    return value


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start_child(argv: Sequence[str], environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A process group of its own, which the kernel ends when this process (the thread that starts it) ends."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=os.environ | (environment or {}),
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


class Server:
    """A child process that listens on a port: it can be killed, paused, and started again there."""

    def __init__(self, argv: list[str], port: int, environment: dict[str, str] | None = None) -> None:
        self.argv, self.port, self.environment = argv, port, environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = start_child(self.argv, self.environment)
        wait_until(lambda: not self.running or listens(self.port), f"{self.argv[0]} listens")
        assert self.running, f"{self.argv[0]} ended by itself"

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        if self.process is not None and self.running:
            self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def pause(self) -> None:
        assert self.process is not None
        self.signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", f"{self.argv[0]} is stopped")

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def send(self, commands: bytes) -> bytes:
        """(memcached) Commands over a connection of their own; what came before the answer of a no-op."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(commands + b"mn\r\n")
            answer = b""
            while not answer.endswith(b"MN\r\n"):
                answer += connection.recv(1 << 20)
            return answer.removesuffix(b"MN\r\n")


def redis_queue(folder: Path) -> Server:
    """Redis that answers once a write is on disk."""
    return _redis(folder, "--appendonly", "yes", "--appendfsync", "always")


def redis_cache(folder: Path) -> Server:
    """Redis that forgets when it ends."""
    return _redis(folder, "--appendonly", "no")


def _redis(folder: Path, *options: str) -> Server:
    port = free_port()
    argv = [_program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    return Server([*argv, "--logfile", "redis.log", *options], port)


def memcached_server() -> Server:
    port = free_port()
    user = pwd.getpwuid(os.geteuid()).pw_name
    options = ["-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1", "-m", "256", "-u", user]
    return Server([_program("memcached"), *options], port)


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not installed"
    return found
