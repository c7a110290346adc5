"""The Locust process of benchmarks/recorder.py: `python -m benchmarks._recorder_users PORT RUN WHAT`.

Two classes of users make the same request in turn, as fast as they can: plain FastHttpUsers, and ours, which decode
the answer, record an op with all its items, and keep histograms. Prints the request rate of each stretch of time: a
second of processor time, which is a second of an undisturbed core, because the users are never idle.
"""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import locust
import msgspec
from locust import constant, task
from locust.contrib.fasthttp import FastHttpUser
from locust.env import Environment

from benchmarks._page_server import CURSOR
from harness.core.clock import NS_PER_S, now_ns
from harness.load.feed_user import FeedUser
from harness.load.plan import LoadPlan, PlanPhase
from harness.load.recorder import Recorder
from harness.load.sessions import Session
from harness.record.run_directory import RunDirectory

USERS = 10
PAIRS = 5
STRETCH_S = 2.0
SETTLE_S = 0.5
TOKEN = "t" * 60
TEXT = "long run done, legs gone #42.post.7"


class PlainUser(FastHttpUser):  # type: ignore[misc]
    """What a Locust test of such a feed is without us."""

    wait_time = constant(0)
    limit = 50

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        """One request."""
        headers = {"Accept-Encoding": "identity", "Authorization": f"Bearer {TOKEN}"}
        if self.limit:
            self.client.get(f"/v1/feed?limit={self.limit}&cursor={CURSOR}", headers=headers, name="feed")
        else:
            headers |= {"Content-Type": "application/json", "Idempotency-Key": "k"}
            self.client.post("/v1/posts", data=msgspec.json.encode({"text": TEXT}), headers=headers, name="post")


class RecordingUser(FeedUser):
    """Ours."""

    wait_time = constant(0)
    limit = 50

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.session = Session("panel-1", 1, "here", cursor=CURSOR, limit=self.limit)

    def api(self, region: str) -> str:
        """The server of all."""
        return str(self.host)

    def token(self, user: int) -> str:
        """That of all."""
        return TOKEN

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        """One request."""
        if self.limit:
            self.read_page(self.session, now_ns(), self.limit, 0)
        else:
            self.write_post(self.session, TEXT, "k", now_ns())


class Results:
    """Where ops go."""

    def __init__(self, recorder: Recorder) -> None:
        self.next_id, self.record = recorder.history.next_id, recorder.record


def tick(recorder: Recorder) -> None:
    """What the load process does once a second."""
    while True:
        gevent.sleep(1.0)
        recorder.tick()
        recorder.ops_status()
        recorder.recent_status()


def stretch(environment: Environment, name: str) -> float:
    """Requests of one class of users for each second of processor time."""
    runner, total = environment.runner, environment.stats.total
    runner.spawn_users({name: USERS})
    gevent.sleep(SETTLE_S)
    before, began_s = total.num_requests, time.process_time()
    gevent.sleep(STRETCH_S)
    rate = (total.num_requests - before) / (time.process_time() - began_s)
    runner.stop_users({name: USERS})
    gevent.sleep(0.1)
    return float(rate)


def main(port: int, run: Path, limit: int) -> None:
    """Measure in turn, print one line."""
    phases = (PlanPhase("warmup", 0, 0), PlanPhase("all", 0, 100 * NS_PER_S))
    recorder = Recorder(LoadPlan(seed=1, run=str(run), users=1, phases=phases, regions={}), "locust-0")
    recorder.start(now_ns())
    RecordingUser.results = Results(recorder)
    for cls in (PlainUser, RecordingUser):
        cls.host, cls.limit = f"http://127.0.0.1:{port}", limit
    environment = Environment(user_classes=[PlainUser, RecordingUser], events=locust.events, stop_timeout=0)
    environment.create_local_runner()
    gevent.spawn(tick, recorder)
    stretch(environment, "PlainUser")
    stretch(environment, "RecordingUser")
    gc.collect()
    gc.freeze()
    pairs = [(stretch(environment, "PlainUser"), stretch(environment, "RecordingUser")) for _ in range(PAIRS)]
    failures = environment.stats.total.num_failures
    recorder.close()
    print(msgspec.json.encode({"pairs": pairs, "failures": failures, "rows": recorder.history.rows}).decode())


if __name__ == "__main__":
    main(int(sys.argv[1]), RunDirectory(Path(sys.argv[2])).create().path, int(sys.argv[3]))
