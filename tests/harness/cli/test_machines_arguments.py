"""Options that share a run out, and `feedstorm worker`: what is wrong with them is told at once, all of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import feedstorm
from harness.cli.machines import DEFAULT_BIND, Machines, parse_address
from harness.core.errors import ExitCode, UsageError
from harness.run.machines import Meeting
from harness.run.request import RunRequest, read_request

SECRET = b"a secret of the tests"


@pytest.fixture
def request_of(tmp_path: Path) -> RunRequest:
    return read_request("celebrity-cache-kill", None, ("population.panel=6",), None, tmp_path / "run")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return path


def problems_of(machines: Machines, request: RunRequest, repeat: int = 1) -> list[str]:
    with pytest.raises(UsageError) as error:
        machines.applied_to(request, repeat)
    return error.value.problems


def test_workers_of_this_machine(request_of: RunRequest) -> None:
    for repeat in (1, 10):
        asked = Machines(3, False, 1, "127.0.0.1:5557", None).applied_to(request_of, repeat)
        assert (asked.workers, asked.meeting) == (3, None)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (("gameday", "celebrity-cache-kill", "--workers", "4"), "--workers 4: 4 processes need population.panel >= 8"),
        (("run", "celebrity-cache-kill", "--master", "--repeat", "2"), "--master: not with --repeat; a worker joins"),
    ],
)
def test_what_cannot_be_shared_out_is_refused_before_anything_starts(
    command: tuple[str, ...], problem: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=re.escape(problem)):
        feedstorm.main([*command, "--set", "population.panel=6", "--out", str(out)], standalone_mode=False)
    assert not out.exists()


def test_a_master(request_of: RunRequest, secret: Path) -> None:
    asked = Machines(0, True, 2, "localhost:7000", secret).applied_to(request_of, 1)
    assert (asked.workers, asked.meeting) == (0, Meeting("localhost", 7000, 2, SECRET))
    assert SECRET.decode() not in repr(asked)


def test_what_cannot_be(request_of: RunRequest, secret: Path, tmp_path: Path) -> None:
    [few] = problems_of(Machines(4, False, 1, DEFAULT_BIND, None), request_of)
    assert few == "--workers 4: 4 processes need population.panel >= 8, or 0; with 6 there can be 3"
    none, *alone = problems_of(Machines(0, False, 3, "127.0.0.1:7000", secret), request_of)
    assert none == "--workers 0: no process is left to make the load"
    assert alone == [f"{name}: only with --master" for name in ("--secret-file", "--expect-workers", "--bind")]
    both = problems_of(Machines(1, True, 1, "127.0.0.1", None), request_of, repeat=2)
    assert [text.partition(":")[0] for text in both] == ["--master", "--secret-file"]
    [open_to_all] = problems_of(Machines(1, True, 1, "0.0.0.0:5557", secret), request_of)
    assert open_to_all == "--bind 0.0.0.0:5557: others could reach it; allow it with --allow-host 0.0.0.0"
    [missing] = problems_of(Machines(1, True, 1, "127.0.0.1", tmp_path / "none"), request_of)
    assert "openssl rand -hex 32" in missing


def test_a_master_that_others_may_reach_was_allowed_to(secret: Path, tmp_path: Path) -> None:
    request = read_request("celebrity-cache-kill", None, (), None, tmp_path / "run", allow_hosts=("0.0.0.0",))
    asked = Machines(1, True, 1, "0.0.0.0", secret).applied_to(request, 1)
    assert asked.meeting == Meeting("0.0.0.0", 5557, 1, SECRET)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("host", ("host", 5557)),
        ("host:1", ("host", 1)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("::1", ("::1", 5557)),
        ("[::1]", ("::1", 5557)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address("HOST", text) == address


@pytest.mark.parametrize(
    "text", ["", ":1", "host:", "host:a", "host:²", "host:65536", "[]:1", "http://host:1", "a b:1", "a:b:c"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="expected HOST or HOST:PORT"):
        parse_address("HOST", text)


@pytest.mark.slow
def test_a_worker_without_a_secret_says_what_it_wants(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "worker", "127.0.0.1"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith("feedstorm: --secret-file: machines of a run share a secret")
