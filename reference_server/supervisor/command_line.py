"""`python -m reference_server up | down | status`.

Exit status: 0 fine · 2 wrong usage · 4 the stack cannot be brought up, or (`status`) is not running. What is wrong
goes to standard error in one sentence.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from reference_server.settings import DEFECTS
from reference_server.supervisor.control import StackStatus, end_stack, stack_status, start_detached
from reference_server.supervisor.layout import StackDirectory
from reference_server.supervisor.parts import SERVICES
from reference_server.supervisor.plan import DEFAULT_READY_TIMEOUT_S, Request
from reference_server.supervisor.programs import StackRefused, StackUnavailable
from reference_server.supervisor.stack import configure_log, run_stack

USAGE, UNAVAILABLE = 2, 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    stack = StackDirectory(Path(options.dir).resolve())
    try:
        if options.command == "up":
            return _up(options, words[1:], stack)
        if options.command == "down":
            print("ended" if end_stack(stack) else "not running")
            return 0
        return _status(stack, as_json=options.json)
    except StackRefused as error:
        print(error, file=sys.stderr)
        return USAGE
    except StackUnavailable as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE


def _up(options: argparse.Namespace, words: list[str], stack: StackDirectory) -> int:
    if options.detach:
        start_detached([word for word in words if word != "--detach"], stack)
        print("ready")
        return 0
    configure_log(stack.log("supervisor"))
    request = Request(
        directory=stack.path,
        population=options.population,
        users=options.users,
        defects=tuple(dict.fromkeys(options.defect)),
        flags=dict(options.flag),
        regions=options.regions,
        link_latency_ms=options.link_latency_ms,
        only=options.only,
        ready_timeout_s=options.ready_timeout,
        parent_pipe=options.parent_pipe,
    )
    run_stack(request, on_ready=lambda: print("ready", flush=True))
    return 0


def _status(stack: StackDirectory, *, as_json: bool) -> int:
    status = stack_status(stack)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(status), indent=1).decode())
    else:
        print(_table(status))
    return 0 if status.running else UNAVAILABLE


def _table(status: StackStatus) -> str:
    if not status.running:
        return "not running"
    lines = [f"supervisor {status.supervisor_pid}: {'ready' if status.ready else 'not ready'}"]
    lines += [f"{name:<32} api {urls['api']}  stream {urls['stream']}" for name, urls in status.regions.items()]
    lines += [f"{name:<32} {h.state:<9} {h.pid or ''}".rstrip() for name, h in status.handles.items()]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reference_server", description="The reference feed stack.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring the stack up; runs until told to end")
    up.add_argument("--population", type=Path, help="directory of population hand-over files")
    up.add_argument("--users", type=_whole(1), help="number of identities without a population (default 1000)")
    up.add_argument("--defect", type=_defect, action="append", default=[], metavar="NAME", help=", ".join(DEFECTS))
    up.add_argument("--flag", type=_flag, action="append", default=[], metavar="K=V", help="a feature flag")
    up.add_argument("--regions", type=_regions, default=("us-east", "ap-tokyo"), help="names, with commas")
    up.add_argument("--link-latency-ms", type=_whole(0), default=100, help="one way, between regions")
    up.add_argument("--only", type=_services, default=SERVICES, help=f"start only these of {','.join(SERVICES)}")
    up.add_argument("--ready-timeout", type=float, default=DEFAULT_READY_TIMEOUT_S, metavar="S")
    background = up.add_mutually_exclusive_group()
    background.add_argument("--parent-pipe", action="store_true", help="end when standard input ends")
    background.add_argument("--detach", action="store_true", help="return when ready, run in the background")
    down = commands.add_parser("down", help="end the stack")
    status = commands.add_parser("status", help="how each part is")
    status.add_argument("--json", action="store_true")
    for command in (up, down, status):
        command.add_argument("--dir", required=True, help="directory of the stack")
    return parser


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number >= {least}, got {text!r}")
        return int(text)

    return parse


def _defect(name: str) -> str:
    if name not in DEFECTS:
        raise argparse.ArgumentTypeError(f"unknown defect {name!r}{_nearest(name, DEFECTS)}")
    return name


def _flag(text: str) -> tuple[str, bool | int | str]:
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, got {text!r}")
    if value.lower() in ("true", "false", "on", "off"):
        return key, value.lower() in ("true", "on")
    return key, int(value) if re.fullmatch(r"-?\d+", value) else value


def _regions(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if len(set(names)) != len(names) or not all(re.fullmatch(r"[a-z][a-z0-9-]{0,15}", name) for name in names):
        raise argparse.ArgumentTypeError(f"must be different names of letters, digits and dashes, got {text!r}")
    return names


def _services(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    for name in names:
        if name not in SERVICES:
            raise argparse.ArgumentTypeError(f"unknown part {name!r}{_nearest(name, SERVICES)}")
    return names


def _nearest(name: str, valid: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(valid), n=1)
    return f" (did you mean '{close[0]}'?)" if close else f" (valid: {', '.join(valid)})"
