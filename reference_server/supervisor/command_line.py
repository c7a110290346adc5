"""`python -m reference_server up | down | status | trace`.

Exit status: 0 fine · 2 wrong usage · 4 the stack cannot be brought up, or is not running (`status`), or its logs tell
nothing of the post (`trace`) · 130 interrupted. What is wrong goes to standard error in one sentence.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from reference_server.flags import PRESETS, FlagInvalid, parse_flag
from reference_server.observability.trace import as_text, steps_of
from reference_server.settings import DEFECTS, MAX_FEPS
from reference_server.supervisor.control import end_stack, start_detached
from reference_server.supervisor.layout import StackDirectory
from reference_server.supervisor.parts import SERVICES
from reference_server.supervisor.plan import DEFAULT_READY_TIMEOUT_S, Request
from reference_server.supervisor.programs import StackRefused, StackUnavailable
from reference_server.supervisor.stack import configure_log, run_stack

USAGE, UNAVAILABLE, INTERRUPTED = 2, 4, 130
DEFAULT_REGIONS = ("us-east", "ap-tokyo")
MAX_LINK_LATENCY_MS = 30_000
"""what replicators have patience for"""
PRESET_REGIONS = {"x-early": ("us-east",)}


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
        if options.command == "trace":
            return _trace(stack, options.post)
        return _status(stack, as_json=options.json, again=options.watch)
    except StackRefused as error:
        print(error, file=sys.stderr)
        return USAGE
    except (StackUnavailable, OSError) as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE
    except KeyboardInterrupt:
        return INTERRUPTED


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
        flags=PRESETS[options.preset] | dict(options.flag),
        regions=options.regions or PRESET_REGIONS.get(options.preset, DEFAULT_REGIONS),
        apis=options.apis,
        feps=options.feps,
        memcacheds=options.memcacheds,
        fanout_workers=options.fanout_workers,
        link_latency_ms=options.link_latency_ms,
        proxies=tuple(dict.fromkeys(options.proxy)),
        wal_tmpfs_mb=options.wal_tmpfs_mb,
        only=options.only,
        ready_timeout_s=options.ready_timeout,
        parent_pipe=options.parent_pipe,
    )
    run_stack(request, on_ready=lambda: print("ready", flush=True))
    return 0


def _status(stack: StackDirectory, *, as_json: bool, again: bool) -> int:
    from reference_server.supervisor import status_view  # rich, which `up` needs not

    runs = status_view.watch(stack) if again else status_view.show_once(stack, as_json=as_json)
    return 0 if runs else UNAVAILABLE


def _trace(stack: StackDirectory, post_id: str) -> int:
    steps = steps_of(post_id.lower(), stack.logs)
    if not steps:
        print(
            f"nothing about post {post_id} in {stack.logs}; one post in `trace_one_in` (a flag) is followed",
            file=sys.stderr,
        )
        return UNAVAILABLE
    print(as_text(steps))
    return 0


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong with a word in one line, without all words there are."""

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m reference_server", description="The reference feed stack.")
    commands = parser.add_subparsers(dest="command", required=True)
    # an abbreviated --detach would be handed on to the process in the background, which would start one again
    add_command = partial(commands.add_parser, allow_abbrev=False)
    up = add_command("up", help="bring the stack up; runs until told to end")
    up.add_argument("--population", type=Path, help="directory of population hand-over files")
    up.add_argument("--users", type=_whole(1), help="identities without a population (default: as before, or 1000)")
    up.add_argument("--defect", type=_defect, action="append", default=[], metavar="NAME", help=", ".join(DEFECTS))
    up.add_argument("--flag", type=_flag, action="append", default=[], metavar="K=V", help="a feature flag")
    up.add_argument("--preset", choices=list(PRESETS), default="threads", help="a named set of flags")
    up.add_argument("--regions", type=_regions, help="names, with commas (default us-east,ap-tokyo)")
    for kind in ("apis", "feps", "memcacheds", "fanout-workers"):
        count = _whole(1, MAX_FEPS if kind == "feps" else None)
        up.add_argument(f"--{kind}", type=count, default=1, metavar="N", help="of each region (default 1)")
    up.add_argument(
        "--link-latency-ms", type=_whole(0, MAX_LINK_LATENCY_MS), default=100, help="one way, between regions"
    )
    up.add_argument(
        "--wal-tmpfs-mb", type=_whole(1), default=0, metavar="MIB", help="keep lanes' logs on a small disk in memory"
    )
    up.add_argument(
        "--proxy", action="append", default=[], metavar="LINK", help="proxy us-east.api-to-memcached, or the like"
    )
    up.add_argument("--only", type=_services, default=SERVICES, help=f"start only these of {','.join(SERVICES)}")
    up.add_argument("--ready-timeout", type=float, default=DEFAULT_READY_TIMEOUT_S, metavar="S")
    background = up.add_mutually_exclusive_group()
    background.add_argument("--parent-pipe", action="store_true", help="end when standard input ends")
    background.add_argument("--detach", action="store_true", help="return when ready, run in the background")
    down = add_command("down", help="end the stack")
    status = add_command("status", help="how each part is")
    shown = status.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true")
    shown.add_argument("--watch", action="store_true", help="show it again and again, until Ctrl-C")
    trace = add_command("trace", help="the way of one post through all processes, from their logs")
    trace.add_argument("post", metavar="POST_ID")
    for command in (up, down, status, trace):
        command.add_argument("--dir", required=True, help="directory of the stack")
    return parser


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    bounds = f">= {least}" if most is None else f"from {least} to {most}"

    def parse(text: str) -> int:
        if not text.isdigit() or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"must be a whole number {bounds}, got {text!r}")
        return int(text)

    return parse


def _defect(name: str) -> str:
    if name not in DEFECTS:
        raise argparse.ArgumentTypeError(f"unknown defect {name!r}{_nearest(name, DEFECTS)}")
    return name


def _flag(text: str) -> tuple[str, bool | int | float | str]:
    try:
        return parse_flag(text)
    except FlagInvalid as error:
        raise argparse.ArgumentTypeError(str(error)) from None


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
