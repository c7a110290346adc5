"""`feedstorm flags`: the feature flags of a running target, read and set at run time by its operator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import click
import msgspec
from rich.table import Table

from harness.cli.in_force import Api, Process, seconds_in_force
from harness.cli.interrupt import run_interruptible
from harness.cli.output import json_option, messages, print_json, results
from harness.cli.stack import directory_option
from harness.contract.client import FeedClient, Flag, Result
from harness.contract.profile import Profile, RegionUrls, require_loopback
from harness.contract.profile_file import base_url
from harness.core.errors import UnavailableError, UsageError

_WORDS = {"on": True, "true": True, "off": False, "false": False}
FlagValue = bool | int | float | str
T = TypeVar("T")


class Operator(NamedTuple):
    """Where the target is operated, and the token for it."""

    apis: list[Api]
    token: str
    processes: Sequence[Process] = ()
    """what else follows the flags"""


class _Region(msgspec.Struct):
    api: str
    apis: list[str] = []
    metrics: dict[str, str] = {}


class _Endpoints(msgspec.Struct):
    regions: dict[str, _Region]
    operator_token_file: str = ""


@click.command()
@click.argument("action", type=click.Choice(["list", "set", "reset"]), default="list")
@click.argument("items", nargs=-1, metavar="[NAME[=VALUE]]...")
@directory_option
@click.option("--api", metavar="URL", help="A target that is not a stack of ours: its api.")
@click.option("--token-file", type=click.Path(path_type=Path), help="File with that target's operator token.")
@json_option
def flags(
    action: str, items: tuple[str, ...], directory: Path, api: str | None, token_file: Path | None, as_json: bool
) -> None:
    """List feature flags; set some, or reset them to what the target was started with.

    \b
    Examples: feedstorm flags
              feedstorm flags set two_tier=off sse_buffer_bytes=16384
              feedstorm flags reset two_tier
              feedstorm flags list --api http://127.0.0.1:8080 --token-file operator.token
    """
    changes = _changes(action, items)
    operator = _remote(api, token_file) if api or token_file else _stack(directory)
    found, in_force = run_interruptible(_run(operator, changes))
    if as_json:
        print_json({"flags": found, **({"in_force_s": in_force} if changes else {})})
    else:
        _print(found, in_force if changes else None)


def _changes(action: str, items: Sequence[str]) -> dict[str, FlagValue | None]:
    """Flag -> value, None: reset. Raises click.UsageError."""
    if action == "list" and items:
        raise click.UsageError(f"list takes no names, got {items[0]!r}; did you mean: flags set {items[0]}")
    if action != "list" and not items:
        raise click.UsageError(f"{action} needs {'NAME=VALUE' if action == 'set' else 'NAME'}")
    changes: dict[str, FlagValue | None] = {}
    for item in items:
        name, equals, word = item.partition("=")
        if not name or bool(equals) != (action == "set"):
            raise click.UsageError(f"must be {'NAME=VALUE' if action == 'set' else 'NAME'}, got {item!r}")
        changes[name] = parse_value(word) if action == "set" else None
    return changes


def parse_value(word: str) -> FlagValue:
    """on, off, true, false; a number; else a text."""
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    for number in (int, float):
        try:
            return number(word)
        except ValueError:
            continue
    return word


def _stack(directory: Path) -> Operator:
    """A stack of ours. Raises UnavailableError."""
    path = directory / "endpoints.json"
    try:
        told = msgspec.json.decode(path.read_bytes(), type=_Endpoints)
        token = Path(told.operator_token_file or directory / "operator.token").read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise UnavailableError(f"no stack runs in {directory} ({error.filename} is not there): feedstorm up") from error
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise UnavailableError(f"stack in {directory}: {error}") from error
    apis = [Api(name, url) for name, one in told.regions.items() for url in one.apis or [one.api]]
    urls = {api.url for api in apis}
    processes = [
        Process(name, part, url)
        for name, one in told.regions.items()
        for part, url in one.metrics.items()
        if not any(url.startswith(f"{api}/") for api in urls)
    ]
    return Operator(apis, token, processes)


def _remote(api: str | None, token_file: Path | None) -> Operator:
    """Raises UsageError, UnavailableError."""
    if not api or token_file is None:
        raise UsageError("--api and --token-file go together")
    try:
        url = base_url(api)
    except ValueError as error:
        raise UsageError(f"--api: {error}") from error
    try:
        token = token_file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise UsageError(f"--token-file {token_file}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--token-file {token_file}: holds no token: {error}") from error
    require_loopback(Profile(name="the target", regions={"--api": RegionUrls(api=url, stream=url)}))
    return Operator([Api("", url)], token)


async def _run(operator: Operator, changes: dict[str, FlagValue | None]) -> tuple[list[Flag], dict[str, float]]:
    """The flags listed, or those changed, and seconds until each process has them."""
    async with FeedClient(RegionUrls(api=operator.apis[0].url, stream=""), token=operator.token) as first:
        clients = {api: first.at(RegionUrls(api=api.url, stream="")) for api in operator.apis}
        if not changes:
            return (await _asked(clients, lambda client: client.flags())).flags, {}
        found = [await _asked(clients, partial(_change, name, value)) for name, value in changes.items()]
        return found, await seconds_in_force(first, operator.apis, operator.processes, found)


async def _change(name: str, value: FlagValue | None, client: FeedClient) -> Result[Flag]:
    return await (client.reset_flag(name) if value is None else client.set_flag(name, value))


async def _asked(clients: dict[Api, FeedClient], ask: Callable[[FeedClient], Awaitable[Result[T]]]) -> T:
    """What the first api that is not away answers. Raises UsageError (refused), UnavailableError (no usable answer)."""
    said = ""
    for client in clients.values():
        result = await ask(client)
        if result.ok:
            return result.get()
        said = result.problem.detail if result.problem else result.error
        if not result.away and result.status < 500:
            raise UsageError(f"{said} (status {result.status})")
    raise UnavailableError(f"the target does not answer: {said}")


def _print(found: list[Flag], in_force: dict[str, float] | None) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("flag", "value", "default", "about"):
        table.add_column(column)
    for flag in found:
        style = "bold" if flag.value != flag.default else ""
        about = flag.about if flag.at_run_time else f"{flag.about} [dim](at start only)[/]"
        table.add_row(
            flag.name, f"[{style}]{_word(flag.value)}[/]" if style else _word(flag.value), _word(flag.default), about
        )
    results().print(table)
    for name, took_s in (in_force or {}).items():
        messages().print(f"in force at {name} after {took_s:.2f} s")


def _word(value: FlagValue) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
