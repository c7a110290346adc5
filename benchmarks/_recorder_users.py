"""The Locust process of benchmarks recorder and client: `python -m benchmarks._recorder_users PORT RUN CLASS...`.

Classes of users make the same requests in turn, as fast as they can: plain FastHttpUsers; users of our connection that
do no more than those; ours, which decode the answer, record an op with all its items, and keep histograms; ours with
nothing recorded. Prints the request rate of each stretch: requests a second of processor time, which is a second of an
undisturbed core.
"""

from __future__ import annotations

import gc
import itertools
import sys
import time
from collections.abc import Sequence
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
from harness.core.op import Op
from harness.load.feed_user import READ_TIMEOUT_S, FeedUser
from harness.load.http_connection import HttpConnection
from harness.load.plan import LoadPlan, PlanPhase
from harness.load.recorder import Recorder
from harness.load.sessions import Session
from harness.record.history import Shown
from harness.record.run_directory import RunDirectory

USERS = 10
ROUNDS = 12
STRETCH_S = 1.0
"""of processor time"""
SETTLE_S = 0.5
TOKEN = "t" * 60
TEXT = "long run done, legs gone #42.post.7"
POST = 0
MIX = (50, 5, 50, POST, 50, 50, 5, 50, POST, 50) * 9 + (50, 5, 50, POST, 50, 50, 5, 50, 5, 5)
"""page sizes and posts as in `feedstorm run celebrity-cache-kill`: 60 % pages of 50, 22 % of 5, 18 % posts"""


class PlainUser(FastHttpUser):  # type: ignore[misc]
    """What a Locust test of such a feed is without us."""

    wait_time = constant(0)
    asked = itertools.cycle(MIX)

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        """One request."""
        headers = {"Accept-Encoding": "identity", "Authorization": f"Bearer {TOKEN}"}
        if limit := next(self.asked):
            self.client.get(f"/v1/feed?limit={limit}&cursor={CURSOR}", headers=headers, name="feed")
        else:
            headers |= {"Content-Type": "application/json", "Idempotency-Key": "k"}
            self.client.post("/v1/posts", data=msgspec.json.encode({"text": TEXT}), headers=headers, name="post")


class LeanUser(FastHttpUser):  # type: ignore[misc]
    """The same through our connection."""

    wait_time = constant(0)
    asked = itertools.cycle(MIX)

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.connection = HttpConnection(str(self.host), READ_TIMEOUT_S)

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        """One request, and Locust's event."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        began_s = time.perf_counter()
        if limit := next(self.asked):
            name, answer = "feed", self.connection.request("GET", f"/v1/feed?limit={limit}&cursor={CURSOR}", headers)
        else:
            headers |= {"Content-Type": "application/json", "Idempotency-Key": "k"}
            body = msgspec.json.encode({"text": TEXT})
            name, answer = "post", self.connection.request("POST", "/v1/posts", headers, body)
        self.environment.events.request.fire(
            request_type="GET" if limit else "POST",
            name=name,
            response_time=(time.perf_counter() - began_s) * 1000,
            response_length=len(answer.content),
            response=None,
            context={},
            exception=None if answer.status < 300 else OSError(f"answered {answer.status}"),
        )


class OurUser(FeedUser):
    """Ours."""

    wait_time = constant(0)
    asked = itertools.cycle(MIX)

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.session = Session("panel-1", 1, "here")

    def api(self, region: str) -> str:
        """The server of all."""
        return str(self.host)

    def token(self, user: int) -> str:
        """That of all."""
        return TOKEN

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        """One request."""
        if limit := next(self.asked):
            self.session.limit, self.session.cursor = limit, CURSOR
            self.read_page(self.session, now_ns(), limit, 0)
        else:
            self.write_post(self.session, TEXT, "k", now_ns())


class UnrecordedUser(OurUser):
    """Ours, with nothing recorded."""


class Results:
    """Where ops go."""

    def __init__(self, recorder: Recorder) -> None:
        self.next_id, self.record = recorder.history.next_id, recorder.record


class Nowhere:
    """Where they do not."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def next_id(self) -> int:
        """A new op id."""
        return next(self._ids)

    def record(self, op: Op, shown: Sequence[Shown] = ()) -> None:
        """Drop it."""


CLASSES = {cls.__name__: cls for cls in (PlainUser, LeanUser, OurUser, UnrecordedUser)}


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
    while (spent_s := time.process_time() - began_s) < STRETCH_S:
        gevent.sleep(STRETCH_S / 10)
    rate = (total.num_requests - before) / spent_s
    runner.stop_users({name: USERS})
    gevent.sleep(0.1)
    return float(rate)


def one_round(environment: Environment, number: int) -> list[float]:
    """The rate of each class; in the other order every second time, so that no drift favours one."""
    names = [cls.__name__ for cls in environment.user_classes]
    rates = {name: stretch(environment, name) for name in (names if number % 2 else reversed(names))}
    return [rates[name] for name in names]


def main(port: int, run: Path, classes: Sequence[type[FastHttpUser]]) -> None:
    """Measure in turn, print one line."""
    phases = (PlanPhase("warmup", 0, 0), PlanPhase("all", 0, 100 * NS_PER_S))
    recorder = Recorder(LoadPlan(seed=1, run=str(run), users=1, phases=phases, regions={}), "locust-0")
    recorder.start(now_ns())
    OurUser.results, UnrecordedUser.results = Results(recorder), Nowhere()
    for cls in classes:
        cls.host = f"http://127.0.0.1:{port}"
    environment = Environment(user_classes=list(classes), events=locust.events, stop_timeout=0)
    environment.create_local_runner()
    gevent.spawn(tick, recorder)
    one_round(environment, 0)
    gc.collect()
    gc.freeze()
    rounds = [one_round(environment, number) for number in range(ROUNDS)]
    failures = environment.stats.total.num_failures
    recorder.close()
    print(msgspec.json.encode({"rounds": rounds, "failures": failures, "rows": recorder.history.rows}).decode())


if __name__ == "__main__":
    main(int(sys.argv[1]), RunDirectory(Path(sys.argv[2])).create().path, [CLASSES[name] for name in sys.argv[3:]])
