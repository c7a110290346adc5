"""Real stacks for tests, ended with the test whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stack_process import StackProcess


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
