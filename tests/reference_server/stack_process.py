"""Real stacks for tests: `up` as a process of its own, ended with the test whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_servers import wait_until

from reference_server.settings import Settings, read_settings
from reference_server.supervisor.layout import StackDirectory, read_pid_file, start_time
from reference_server.supervisor.sweep import marked


class StackProcess:
    """`python -m reference_server up --dir DIR ...`."""

    def __init__(self, directory: Path, *options: str, env: dict[str, str] | None = None) -> None:
        self.stack = StackDirectory(directory)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "reference_server", "up", "--dir", str(directory), "--parent-pipe", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | (env or {}),
            text=True,
        )
        self.mark = ""

    def await_ready(self) -> StackProcess:
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            pytest.fail(f"the stack did not start: {self.process.communicate()[1]}")
        running = self.stack.running()
        assert running is not None
        self.mark = running.marker
        return self

    @property
    def settings(self) -> Settings:
        return read_settings(self.stack.settings)

    @property
    def endpoints(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stack.endpoints.read_text())
        return found

    def pid(self, handle: str) -> int:
        """The handle's living process group leader, 0 when it is down."""
        leader = read_pid_file(self.stack.pid_file(handle))
        return leader[0] if leader and start_time(leader[0]) == leader[1] else 0

    def kill(self, handle: str) -> int:
        pid = self.pid(handle)
        assert pid, f"{handle} is down"
        os.killpg(pid, signal.SIGKILL)
        wait_until(lambda: start_time(pid) == 0, f"{handle} gone")
        return pid

    def restart(self, handle: str) -> int:
        """SIGKILL the handle and await its successor."""
        before = self.kill(handle)
        pid: int = wait_until(lambda: (p := self.pid(handle)) != before and p, f"{handle} restarted")
        return pid

    def members(self) -> list[int]:
        """Living processes of the stack."""
        return marked(self.mark) if self.mark else []

    def end(self) -> tuple[int, str, str]:
        """(exit status, standard output, standard error) after standard input was closed."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.fixture
def start_stack(tmp_path: Path) -> Iterator[Callable[..., StackProcess]]:
    """Starts stacks; without a directory in tmp_path / "stack"."""
    started: list[StackProcess] = []

    def start(*options: str, directory: Path | None = None, env: dict[str, str] | None = None) -> StackProcess:
        started.append(StackProcess(directory or tmp_path / "stack", *options, env=env))
        return started[-1]

    yield start
    for stack in started:
        if stack.process.poll() is None:
            stack.end()
        for stream in (stack.process.stdin, stack.process.stdout, stack.process.stderr):
            if stream is not None:
                stream.close()
