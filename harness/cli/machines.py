"""Options of `feedstorm run` that share the load out over processes and machines, and `feedstorm worker`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import click

from harness.cli.interrupt import run_interruptible
from harness.cli.output import messages
from harness.contract.profile import is_loopback
from harness.core.errors import UsageError
from harness.run.load_parts import MOST_WORKERS, workers_problems
from harness.run.machines import Meeting
from harness.run.request import RunRequest
from harness.run.secret import read_secret
from harness.run.worker import Offer, work

DEFAULT_PORT = 5557
DEFAULT_BIND = f"127.0.0.1:{DEFAULT_PORT}"
MOST_MACHINES = 64
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Machines:
    """What was asked for."""

    workers: int
    is_master: bool
    expected: int
    bind: str
    secret_file: Path | None

    def applied_to(self, request: RunRequest, repeat: int) -> RunRequest:
        """The request with it. Raises UsageError with every problem."""
        problems: list[str] = []
        if not self.is_master:
            panel = request.scenario.population.panel
            problems += workers_problems(f"--workers {self.workers}", self.workers, panel)
            alone = {"--secret-file": self.secret_file, "--expect-workers": self.expected, "--bind": self.bind}
            usual = {"--expect-workers": 1, "--bind": DEFAULT_BIND}
            problems += [f"{name}: only with --master" for name, value in alone.items() if value != usual.get(name)]
            if problems:
                raise UsageError(problems)
            return replace(request, workers=self.workers)
        if repeat > 1:
            problems.append("--master: not with --repeat; a worker joins one run")
        meeting = None
        try:
            meeting = self._meeting(request.allow_hosts)
        except UsageError as error:
            problems += error.problems
        if problems:
            raise UsageError(problems)
        return replace(request, workers=self.workers, meeting=meeting)

    def _meeting(self, allow_hosts: tuple[str, ...]) -> Meeting:
        host, port = parse_address("--bind", self.bind)
        if not is_loopback(host) and host not in allow_hosts:
            raise UsageError(f"--bind {self.bind}: others could reach it; allow it with --allow-host {host}")
        return Meeting(host, port, self.expected, needed_secret(self.secret_file))


def needed_secret(path: Path | None) -> bytes:
    """The secret in the file. Raises UsageError, also when no file was named."""
    if path is None:
        raise UsageError("--secret-file: machines of a run share a secret: name the file that holds it")
    return read_secret(path)


def parse_address(option: str, text: str) -> tuple[str, int]:
    """HOST, HOST:PORT or [HOST]:PORT. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.startswith("[")):
        host, port = text, str(DEFAULT_PORT)
    host = host.strip("[]")
    if not _is_host(host) or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"{option}: expected HOST or HOST:PORT, got {text!r}")
    return host, int(port)


def _is_host(text: str) -> bool:
    """Whether it is a name, or an address of either sort."""
    try:
        return bool(_NAME.fullmatch(text) or IPv6Address(text))
    except ValueError:
        return False


secret_option = click.option(
    "--secret-file", type=click.Path(path_type=Path), help="File with the secret that all machines of a run share."
)


def with_machines(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options, which the command gets as one argument `machines`."""

    @click.option("--workers", type=click.IntRange(0, MOST_WORKERS), default=1, metavar="N",
                  help="Locust processes that make the load on this machine.")  # fmt: skip
    @click.option("--master", "is_master", is_flag=True, help="Wait for workers on other machines: feedstorm worker.")
    @click.option("--expect-workers", "expected", type=click.IntRange(1, MOST_MACHINES), default=1, metavar="N",
                  help="With --master: how many.")  # fmt: skip
    @click.option("--bind", default=DEFAULT_BIND, metavar="HOST:PORT", show_default=True,
                  help="With --master: where they join.")  # fmt: skip
    @secret_option
    @wraps(command)
    def wrapped(
        *args: Any, workers: int, is_master: bool, expected: int, bind: str, secret_file: Path | None, **kwargs: Any
    ) -> Any:
        return command(*args, machines=Machines(workers, is_master, expected, bind, secret_file), **kwargs)

    return wrapped


@click.command()
@click.argument("master", metavar="HOST[:PORT]")
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), default=1, metavar="N",
              help="Locust processes that make load on this machine.")  # fmt: skip
@secret_option
@click.option("--allow-host", "allow_hosts", multiple=True, metavar="HOST", help="Allow a target that is not loopback.")
def worker(master: str, workers: int, secret_file: Path | None, allow_hosts: tuple[str, ...]) -> None:
    """Take part in one run of a master: make its load on this machine too.

    \b
    On the master:   feedstorm run sse-storm --target mine.toml --master --secret-file secret
    On this machine: feedstorm worker 127.0.0.1:5557 --secret-file secret    (through ssh -L: docs/distribution.md)
    """
    host, port = parse_address("HOST", master)
    offer = Offer(host, port, workers, needed_secret(secret_file), allow_hosts)
    console = messages()
    run_interruptible(work(offer, lambda text: console.print(text, soft_wrap=True)))
    console.print("the master has everything")
