"""Keys of a terminal, without a line to end; the terminal is as before afterwards."""

import asyncio
import io
import json
import os
import pty
import subprocess
import sys
import termios

import pytest

from harness.cli.keys import reading_keys


class Terminal:
    """A pseudo-terminal as standard input."""

    def __init__(self, monkeypatch):
        self.operator, self.program = pty.openpty()
        monkeypatch.setattr(sys, "stdin", os.fdopen(self.program, "r", closefd=False))

    def flags(self):
        return termios.tcgetattr(self.program)[3]

    def hang_up(self):
        os.close(self.operator)
        self.operator = -1

    def close(self):
        sys.stdin.close()
        os.close(self.program)
        if self.operator >= 0:
            self.hang_up()


async def test_each_key_calls_its_action(monkeypatch):
    terminal = Terminal(monkeypatch)
    try:
        before, typed, ended = terminal.flags(), [], asyncio.Event()
        with reading_keys({"f": lambda: typed.append("f"), "q": ended.set}):
            assert not terminal.flags() & termios.ICANON
            os.write(terminal.operator, b"fxfq")
            await asyncio.wait_for(ended.wait(), 5)
        assert typed == ["f", "f"]
        assert terminal.flags() == before
    finally:
        terminal.close()


async def test_a_terminal_that_goes_away_is_let_go(monkeypatch):
    terminal, loop, errors = Terminal(monkeypatch), asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    seen, told = os.pipe()
    later = asyncio.Event()
    try:
        with reading_keys({"q": later.set}):
            terminal.hang_up()
            loop.add_reader(seen, later.set)  # an event that comes after the hang-up
            os.write(told, b"x")
            await asyncio.wait_for(later.wait(), 5)
            assert not loop.remove_reader(terminal.program)
        assert errors == []
    finally:
        loop.remove_reader(seen)
        os.close(seen)
        os.close(told)
        terminal.close()


async def test_without_a_terminal_there_are_no_keys(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("q"))
    with reading_keys({"q": lambda: None}):
        pass


PROGRAM = """
import asyncio, signal, sys
from harness.cli.keys import reading_keys

async def main():
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, ended.set)
    with reading_keys({key: lambda key=key: print("key " + key, flush=True) for key in "abc"}):
        while not ended.is_set():
            print("beat", flush=True)
            await asyncio.sleep(0.02)

asyncio.run(main())
"""
SHELL = r"""
import fcntl, json, os, pty, select, signal, subprocess, sys, termios

operator, terminal = pty.openpty()
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
job = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=terminal, stdout=subprocess.PIPE, process_group=0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
seen = []

def wait(words, times):
    while times:
        ready, _, _ = select.select([job.stdout], [], [], 5)
        line = job.stdout.readline().decode().strip() if ready else "nothing"
        if line != "beat":
            seen.append(line)
        if line in ("nothing", ""):
            job.kill()
            print(json.dumps(seen))
            sys.exit()
        times -= line == words

def modes():
    return termios.tcgetattr(terminal)[3] & (termios.ICANON | termios.ECHO)

before = modes()
wait("beat", 5)                             # started with &
assert modes() == before
os.write(operator, b"a\n")
wait("beat", 5)
assert os.read(terminal, 9) == b"a\n"       # for the shell
os.tcsetpgrp(terminal, job.pid)             # fg
while modes() == before:
    wait("beat", 1)
os.write(operator, b"b")
wait("key b", 1)
os.tcsetpgrp(terminal, os.getpgrp())        # Ctrl-Z, bg
os.write(operator, b"c")
wait("beat", 20)
assert os.read(terminal, 9) == b"c"         # for the shell
job.send_signal(signal.SIGUSR1)
_, status = os.waitpid(job.pid, os.WUNTRACED)
assert modes() != before                    # the terminal is the shell's
os.kill(job.pid, signal.SIGKILL) if os.WIFSTOPPED(status) else None
print(json.dumps([*seen, "stopped" if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)]))
"""


@pytest.mark.slow
def test_in_the_background_it_goes_on_and_leaves_keys_to_the_shell():
    done = subprocess.run(
        [sys.executable, "-c", SHELL, PROGRAM], capture_output=True, start_new_session=True, timeout=60, check=False
    )
    assert done.stderr == b""
    assert json.loads(done.stdout) == ["key b", 0]
