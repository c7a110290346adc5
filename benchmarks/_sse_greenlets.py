"""Listeners as Locust users, a greenlet each, for benchmarks/streams.py; spoken to like `benchmarks._sse_clients`."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, ClassVar

import gevent
import gevent.os
from locust import FastHttpUser, task
from locust.env import Environment

STATUS_S = 0.1


class Tally:
    """What has happened so far."""

    open = events = open_ns = event_ns = 0


class Listener(FastHttpUser):  # type: ignore[misc]
    """Keeps one stream open. Locust's own `iter_lines` waits for 1 KB, so that events would come nine at a time."""

    network_timeout = None
    tokens: ClassVar[list[str]] = []

    @task  # type: ignore[untyped-decorator]
    def listen(self) -> None:
        """Until the stream ends."""
        headers = {"Authorization": f"Bearer {self.tokens.pop()}"}
        with self.client.get("/v1/stream", headers=headers, stream=True, catch_response=True) as response:
            response.success()
            Tally.open += 1
            Tally.open_ns = time.monotonic_ns()
            data = b""
            while line := response._response.readline(b"\n"):
                if line.startswith(b"data:"):
                    data = line[5:]
                elif data and not line.strip():
                    json.loads(data)
                    data = b""
                    Tally.events += 1
                    Tally.event_ns = time.monotonic_ns()


def say() -> None:
    names = ("open", "events", "open_ns", "event_ns")
    sys.stdout.write(json.dumps({name: getattr(Tally, name) for name in names}) + "\n")
    sys.stdout.flush()


def read_job() -> dict[str, Any]:
    block = b""
    while not block.endswith(b"\n"):
        block += gevent.os.tp_read(0, 1 << 20)
    job: dict[str, Any] = json.loads(block)
    return job


def main() -> None:
    """Listen until standard input ends."""
    say()
    job = read_job()
    Listener.tokens = list(job["tokens"].values())
    runner = Environment(user_classes=[Listener], host=f"http://127.0.0.1:{job['port']}").create_local_runner()
    ended = gevent.spawn(gevent.os.tp_read, 0, 1)
    runner.start(len(Listener.tokens), spawn_rate=100_000)
    while not ended.ready():
        say()
        gevent.sleep(STATUS_S)


if __name__ == "__main__":
    main()
