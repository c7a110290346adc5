"""The api as a process: how it ends, what it says about itself, what a bug looks like from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from api_region import ApiRegion, eventually, problem
from real_servers import listens, start_child, until

from reference_server.api import measures
from reference_server.api.app import make_app
from reference_server.events import encode

pytestmark = pytest.mark.slow


async def test_a_bug_is_a_problem_document_without_a_trace() -> None:
    app = make_app()  # without its parts every handler fails
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/v1/feed")
    assert answer.status_code == 500
    assert problem(answer) == "unavailable"
    assert answer.json()["detail"] == "internal error"


async def test_sigkill_of_the_main_process_takes_the_worker_along(region: ApiRegion) -> None:
    assert region.api is not None
    assert region.api.process is not None
    region.api.process.kill()
    region.api.process.wait()

    async def gone() -> bool:
        return not listens(region.region.api_ports[0])

    await eventually(gone, "the worker has ended")


async def test_a_worker_that_was_still_starting_ends_with_its_main_process_too(region: ApiRegion) -> None:
    assert region.api is not None
    region.api.kill()
    main = start_child(region.api.argv, region.api.environment)
    [worker] = await until(lambda: members(main.pid) - {main.pid}, "the main process has a worker")
    main.kill()
    main.wait()
    await until(lambda: worker not in members(main.pid), "the worker has ended")


def members(group: int) -> set[int]:
    """Living processes of a group."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if state not in "ZX" and int(its_group) == group:
                found.add(int(path.parent.name))
    return found


async def test_its_threads_do_not_interrupt_each_other(region: ApiRegion) -> None:
    assert region.api is not None
    assert region.api.process is not None
    threads = [
        int(path.name)
        for process in members(region.api.process.pid)
        for path in Path(f"/proc/{process}/task").iterdir()
    ]
    assert len(threads) > 3
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_BATCH}


async def test_requests_under_way_are_finished_on_sigterm(region: ApiRegion) -> None:
    assert region.api is not None
    assert region.api.process is not None
    region.redis.signal(signal.SIGSTOP)
    try:
        writing = asyncio.create_task(region.user(1).call("POST", "/v1/posts", json={"text": "x"}))
        await asyncio.sleep(0)

        async def under_way() -> bool:
            await region.http.get("/healthz")
            return True

        await eventually(under_way, "the post has been sent")
        region.api.process.send_signal(signal.SIGTERM)
    finally:
        region.redis.signal(signal.SIGCONT)
    answer = await writing
    assert answer.status_code == 201
    assert (await region.stored())["posts"] == 1


async def test_an_own_post_is_waited_for_as_an_anchor(region: ApiRegion) -> None:
    alice = region.user(1)
    post = await alice.post()
    stream = await region.keeper.entries("posts", "0-0", 10)
    await region.keeper._link.call("XDEL", "posts", stream[0].id)  # not arrived yet
    asking = asyncio.create_task(alice.call("GET", f"/v1/feed/new?since={post['id']}"))

    async def asked() -> bool:
        return region.calls.count("materialise") > 0 or asking.done()

    await eventually(asked, "the anchor was looked for")
    assert stream[0].event is not None
    await region.keeper._link.call("XADD", "posts", "*", "e", encode(stream[0].event))
    answer = await asking
    assert answer.json() == {"items": [], "complete": True}


def test_metrics_of_parts_are_joined_by_family() -> None:
    part = b"""# HELP process_cpu_seconds_total Time.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.5
# HELP only_here_seconds Time.
# TYPE only_here_seconds histogram
only_here_seconds_bucket{le="0.1"} 2.0
only_here_seconds_sum 3.0
"""
    lines = measures.joined("api-0", {"graph": part, "jobs": part}).decode().splitlines()
    place = lines.index('only_here_seconds_bucket{part="graph",le="0.1"} 2.0')
    assert lines[place - 2 : place + 4] == [
        "# HELP only_here_seconds Time.",
        "# TYPE only_here_seconds histogram",
        'only_here_seconds_bucket{part="graph",le="0.1"} 2.0',
        'only_here_seconds_sum{part="graph"} 3.0',
        'only_here_seconds_bucket{part="jobs",le="0.1"} 2.0',
        'only_here_seconds_sum{part="jobs"} 3.0',
    ]
    assert sum(line.startswith("# TYPE process_cpu_seconds_total") for line in lines) == 1
    assert 'process_cpu_seconds_total{part="jobs"} 1.5' in lines


def test_an_api_whose_flags_stand_still_ends() -> None:
    program = """
import asyncio
from reference_server.api.app import _end_without_flags

async def follow():
    raise LookupError("a bug")

async def serve():
    following = asyncio.create_task(follow())
    following.add_done_callback(_end_without_flags)
    await asyncio.sleep(30)

asyncio.run(serve())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=25, check=False)
    assert done.returncode == 70
    assert "LookupError: a bug" in done.stderr
