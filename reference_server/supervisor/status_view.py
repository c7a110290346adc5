"""`status`: a stack as a table, once or again and again, or as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from reference_server.supervisor.layout import StackDirectory
from reference_server.supervisor.observer import SUPERVISOR, Observer, PartUsage, RegionFigures, StackView

_Value = TypeVar("_Value")
_Cell = TypeVar("_Cell", str, Text)
ONCE_OVER_S = 1.0
"""time over which rates are measured when the table is shown once"""
EVERY_S = 2.0
_PARTS_FRAME = 4
"""lines around the parts: an empty one, the head, the sum, the cursor's own"""
PLAIN_WIDTH = 120
_STATES = {"ready": "green", "starting": "yellow", "paused": "yellow", "held": "red", "down": "red"}


def show_once(stack: StackDirectory, *, as_json: bool) -> bool:
    """Print the stack to standard output; False when it does not run."""
    view = asyncio.run(_look_twice(stack))
    if as_json:
        print(msgspec.json.format(to_json(view), indent=1).decode())
    elif view.status.running:
        _console().print(render(view))
    else:
        _tell_down(stack)
    return view.status.running


def watch(stack: StackDirectory, every_s: float = EVERY_S) -> bool:
    """Show the stack until it ends or the user has seen enough (Ctrl-C); False when it did not run at all."""
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_watch(stack, every_s))
    return True


async def _watch(stack: StackDirectory, every_s: float) -> bool:
    observer = Observer(stack)
    view = await observer.look()
    if not view.status.running:
        _tell_down(stack)
        return False
    console = _console()
    height = console.height if console.is_terminal else None
    with Live(render(view, height), console=console, auto_refresh=False) as live:
        while view.status.running:
            await asyncio.sleep(every_s)
            view = await observer.look()
            live.update(render(view, height), refresh=True)
    return True


async def _look_twice(stack: StackDirectory) -> StackView:
    observer = Observer(stack)
    view = await observer.look()
    if view.usage:
        await asyncio.sleep(ONCE_OVER_S)
        view = await observer.look()
    return view


def _tell_down(stack: StackDirectory) -> None:
    start = f"feedstorm up --dir {stack.path} --detach"
    print(f"no stack is running in {stack.path}; start one with: {start}", file=sys.stderr)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


def to_json(view: StackView) -> bytes:
    """One object: the fields of the status, with `usage` and `figures` beside them."""
    both = {"usage": view.usage, "figures": view.figures}
    return msgspec.json.encode(msgspec.to_builtins(view.status) | msgspec.to_builtins(both))


def render(view: StackView, height: int | None = None) -> RenderableType:
    """What people see. With `height` lines of screen addresses are left out, and when not all parts fit, those that
    are not ready and those that are busy come first.
    """
    status = view.status
    if not status.running:
        return "the stack has ended"
    lines: list[RenderableType] = [f"supervisor {status.supervisor_pid}: {'ready' if status.ready else 'not ready'}"]
    for name, urls in status.regions.items() if height is None else ():
        lines.append(f"{name}: " + "  ".join(f"{kind} {url}" for kind, url in urls.items()))
    if view.figures:
        lines += ["", _regions(view.figures)]
        lines += [_flags(name, figures) for name, figures in view.figures.items() if figures.flags]
    taken = len(lines) + len(view.figures) + _PARTS_FRAME
    lines += ["", _parts(view, None if height is None else max(height - taken, 1))]
    return Group(*lines)


def _parts(view: StackView, most: int | None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("part")
    table.add_column("state")
    for column in ("pid", "cpu", "memory", "restarts"):
        table.add_column(column, justify="right")
    states = {name: (found.state, found.pid) for name, found in view.status.handles.items()}
    states |= {name: ("ready", view.status.supervisor_pid) for name in view.usage if name == SUPERVISOR}
    states |= {name: ("ready", 0) for name in view.usage if name not in states}
    for name, (state, pid) in list(_in_order(states, view.usage, most).items())[:most]:
        used = view.usage.get(name)
        row = _used(used) if used is not None else ("-", "-", "")
        table.add_row(name, Text(state, _STATES.get(state, "")), str(pid or ""), *row)
    ratios = [used.cpu_ratio for used in view.usage.values() if used.cpu_ratio is not None]
    memory = sum(used.memory_bytes for used in view.usage.values())
    if ratios:
        table.add_row("all", "", "", f"{sum(ratios):.1%}", f"{memory / 2**20:.0f} MiB", "", style="bold")
    return table


def _in_order(
    states: dict[str, tuple[str, int]], usage: dict[str, PartUsage], most: int | None
) -> dict[str, tuple[str, int]]:
    """As they come when all of them fit; else what is not ready first, then the busiest."""
    if most is None or len(states) <= most:
        return states

    def rank(item: tuple[str, tuple[str, int]]) -> tuple[bool, float]:
        used = usage.get(item[0])
        return item[1][0] == "ready", -(used.cpu_ratio or 0.0) if used is not None else 0.0

    return dict(sorted(states.items(), key=rank))


def _used(used: PartUsage) -> tuple[str, str, str]:
    cpu = _shown(used.cpu_ratio, lambda ratio: f"{ratio:.1%}")
    return cpu, f"{used.memory_bytes / 2**20:.0f} MiB", str(used.restarts or "")


def _regions(figures: dict[str, RegionFigures]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("region")
    rows = [_region_row(found) for found in figures.values()]
    for column in rows[0]:
        table.add_column(column, justify="right")
    for name, row in zip(figures, rows, strict=True):
        table.add_row(name, *row.values())
    return table


def _region_row(found: RegionFigures) -> dict[str, str | Text]:
    def rate(value: float | None) -> str:
        return _shown(value, lambda per_s: f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.1f}")

    posts, dead = (found.queue_depth.get(name, 0) for name in ("posts", "dead"))
    depth = posts + found.queue_depth.get("celeb", 0)
    return {
        "posts/s": rate(found.posts_per_s),
        "reads/s": rate(found.feed_reads_per_s),
        "entries/s": rate(found.fanout_entries_per_s),
        "events/s": rate(found.events_per_s),
        "hit ratio": _shown(found.hit_ratio, lambda ratio: f"{ratio:.1%}"),
        "streams": f"{found.streams_open:,}",
        "queue": (f"{depth:,}" if found.queue_depth else "-") + (f" ({dead} dead)" if dead else ""),
        "lag": _shown(found.replication_lag_s, lambda lag_s: f"{lag_s:.1f} s"),
        "degraded": _shown(found.overload_level, lambda level: Text(str(level), "red" if level else "")),
    }


def _flags(region: str, figures: RegionFigures) -> str:
    return f"{region} flags: " + ", ".join(f"{name}={value}" for name, value in figures.flags.items())


def _shown(value: _Value | None, text: Callable[[_Value], _Cell]) -> _Cell | str:
    return "-" if value is None else text(value)
