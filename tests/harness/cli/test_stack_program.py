"""How `feedstorm up | down | status` end with the program they start: its exit code, its signals, ours."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.errors import ExitCode

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def start(tmp_path):
    """Starts `feedstorm status` where `reference_server` is a program of these lines."""
    started = []

    def run(program):
        package = tmp_path / "reference_server"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(f"import os, signal, sys\n{program}\n")
        command = [sys.executable, "-m", "harness.cli", "status", "--dir", str(tmp_path)]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=env, text=True, **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("sys.exit(0)", ExitCode.PASS),
        ("sys.exit(4)", ExitCode.ENVIRONMENT),
        ("signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)", ExitCode.INTERRUPTED),
        ("os.kill(os.getpid(), signal.SIGTERM)", ExitCode.INTERRUPTED),
        ("os.kill(os.getpid(), signal.SIGKILL)", ExitCode.INTERNAL),
    ],
)
def test_how_the_program_ended_becomes_the_exit_code(start, program, code):
    process = start(program)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in said
    assert ("signal 9" in said) == (code == ExitCode.INTERNAL)


def test_sigterm_goes_to_the_program(start):
    process = start(
        "signal.signal(signal.SIGTERM, lambda *_: (print('told', flush=True), sys.exit(3)))\n"
        "print('here', flush=True)\n"
        "while True: signal.pause()"
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "told\n"
    assert process.returncode == 3
