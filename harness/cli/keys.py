"""Single keys of a terminal, while an event loop runs. Where standard input is no terminal there are none.

In the background (`&`, or Ctrl-Z and `bg`) the terminal belongs to somebody else: then nothing is read from it and
nothing set, until the job is in the foreground again.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

LOOK_EVERY_S = 0.2
"""whether the job is in the foreground"""


@contextmanager
def reading_keys(actions: Mapping[str, Callable[[], object]]) -> Iterator[None]:
    """Call the action of each key that is typed while the block lasts; the terminal is as before afterwards.

    Ctrl-C stays what it is. Needs a running event loop, which calls the actions, in the main thread.
    """
    if not sys.stdin.isatty():
        yield
        return
    keys = _Keys(sys.stdin.fileno(), actions)
    keys.look()
    try:
        yield
    finally:
        keys.close()


class _Keys:
    """The keys of one terminal."""

    def __init__(self, descriptor: int, actions: Mapping[str, Callable[[], object]]) -> None:
        self._descriptor, self._actions = descriptor, actions
        self._loop = asyncio.get_running_loop()
        self._before: list[Any] | None = None
        self._next_look: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Take the terminal, or let it go; look again soon."""
        try:
            if self._is_foreground():
                self._take_terminal()
                self._loop.add_reader(self._descriptor, self._read)
            else:
                self._loop.remove_reader(self._descriptor)
        except termios.error:  # the terminal is gone
            self._loop.remove_reader(self._descriptor)
            return
        self._next_look = self._loop.call_later(LOOK_EVERY_S, self.look)

    def close(self) -> None:
        """Read no more; give the terminal back as it was, unless others have it."""
        if self._next_look is not None:
            self._next_look.cancel()
        self._loop.remove_reader(self._descriptor)
        if self._before is not None and self._is_foreground():
            with suppress(termios.error), _not_stopped():  # the terminal is gone
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def _is_foreground(self) -> bool:
        """Whether keys are meant for us; also where the terminal is not the one that controls our jobs."""
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:
            return True

    def _take_terminal(self) -> None:
        """Keys without a line to end: also after a shell, meanwhile, set the terminal as it likes it."""
        modes = termios.tcgetattr(self._descriptor)
        if modes[3] & termios.ICANON:
            self._before = modes
            with _not_stopped():
                tty.setcbreak(self._descriptor, termios.TCSANOW)

    def _read(self) -> None:
        if not self._is_foreground():
            self._loop.remove_reader(self._descriptor)  # what is typed stays there, for others
            return
        try:
            typed = os.read(self._descriptor, 64)
        except OSError:
            typed = b""
        if not typed:  # the terminal is gone
            self._loop.remove_reader(self._descriptor)
            if self._next_look is not None:
                self._next_look.cancel()
        for key in typed.decode(errors="replace"):
            if key in self._actions:
                self._actions[key]()


@contextmanager
def _not_stopped() -> Iterator[None]:
    """To set the terminal from the background stops nobody: we may have been sent there a moment ago."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTTOU, before)
