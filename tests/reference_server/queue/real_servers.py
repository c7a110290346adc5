"""Real redis and memcached processes for tests: free ports, restartable, ended with the test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

DEADLINE_S = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, limit_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.01)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A child process that listens on a port."""

    def __init__(self, argv: list[str], port: int, environment: dict[str, str] | None = None) -> None:
        self.argv, self.port, self.environment = argv, port, environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = os.environ | (self.environment or {})
        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        wait_until(lambda: self.running and listens(self.port), f"{self.argv[0]} listens")

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


def redis_queue(folder: Path) -> Server:
    port = free_port()
    program = shutil.which("redis-server")
    assert program is not None
    argv = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    return Server([*argv, "--appendonly", "yes", "--appendfsync", "always", "--logfile", "redis.log"], port)


def memcached() -> Server:
    port = free_port()
    program = shutil.which("memcached")
    assert program is not None
    user = pwd.getpwuid(os.geteuid()).pw_name
    return Server([program, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1", "-u", user], port)
