"""What `status` shows of a view, in words and as JSON."""

from __future__ import annotations

import io
import json

from rich.console import Console

from reference_server.supervisor.control import HandleStatus, StackStatus
from reference_server.supervisor.observer import PartUsage, RegionFigures, StackView
from reference_server.supervisor.status_view import render, to_json

FIGURES = RegionFigures(
    posts_per_s=12.34,
    feed_reads_per_s=3.21,
    fanout_entries_per_s=None,
    events_per_s=0.0,
    hit_ratio=0.9876,
    queue_depth={"posts": 1200, "celeb": 34, "outbox": 5, "dead": 2},
    streams_open=4321,
    replication_lag_s=0.51,
    overload_level=2,
    flags={"two_tier": False, "trace_one_in": 1},
)
VIEW = StackView(
    status=StackStatus(
        running=True,
        ready=False,
        supervisor_pid=7,
        regions={"eu": {"api": "http://127.0.0.1:1", "stream": "http://127.0.0.1:2", "edge": "https://127.0.0.1:3"}},
        handles={
            "eu.api": HandleStatus(state="ready", pid=41),
            "eu.graph": HandleStatus(state="held", pid=0),
            "link.eu.us": HandleStatus(state="ready", pid=0),
        },
    ),
    usage={
        "eu.api": PartUsage(cpu_ratio=0.256, memory_bytes=100 << 20, restarts=3),
        "supervisor": PartUsage(cpu_ratio=0.004, memory_bytes=50 << 20, restarts=0),
        "toxiproxy": PartUsage(cpu_ratio=None, memory_bytes=10 << 20, restarts=0),
    },
    figures={"eu": FIGURES},
)


def shown(view: StackView, height: int | None = None) -> list[list[str]]:
    """The words of each line."""
    console = Console(file=io.StringIO(), width=120)
    console.print(render(view, height))
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_parts_and_regions_are_shown() -> None:
    lines = {words[0]: words for words in shown(VIEW) if words}
    assert lines["supervisor"] == ["supervisor", "ready", "7", "0.4%", "50", "MiB"]
    assert lines["eu.api"] == ["eu.api", "ready", "41", "25.6%", "100", "MiB", "3"]
    assert lines["eu.graph"] == ["eu.graph", "held", "-", "-"]
    assert lines["toxiproxy"] == ["toxiproxy", "ready", "-", "10", "MiB"]
    assert lines["all"] == ["all", "26.0%", "160", "MiB"]
    assert lines["eu:"][-1] == "https://127.0.0.1:3"
    row = ["eu", "12", "3.2", "-", "0.0", "98.8%", "4,321", "1,234", "(2", "dead)", "0.5", "s", "2"]
    assert row in shown(VIEW)
    assert ["eu", "flags:", "two_tier=False,", "trace_one_in=1"] in shown(VIEW)


def test_on_a_small_screen_what_needs_attention_comes_first() -> None:
    assert [words[0] for words in shown(VIEW, 12) if words][-5:] == ["part", "eu.graph", "eu.api", "supervisor", "all"]
    assert len(shown(VIEW, 12)) == 11
    assert len(shown(VIEW, 100)) == len(shown(VIEW)) - 1, "all parts, without the addresses"


def test_json_has_the_status_at_the_top() -> None:
    document = json.loads(to_json(VIEW))
    assert document["handles"]["eu.api"] == {"state": "ready", "pid": 41}
    assert document["usage"]["eu.api"]["restarts"] == 3
    assert document["figures"]["eu"]["hit_ratio"] == 0.9876
    assert not document["ready"]
