"""A Locust process of a run: `python -m harness.load.locust_process PLAN NAME INDEX COUNT`.

Process INDEX of COUNT does its share of the arrivals (`harness.load.shard`). Reads commands from standard input, one
JSON object a line, and prints one status line a second:

    ready -> {"cmd": "start", "t0_ns": N} -> running -> (end of the plan, {"cmd": "stop"}, or end of input) -> done

{"cmd": "cut", "end_ns": N} on the way: the plan ends N ns after t0, what is due later is not asked for any more.
{"cmd": "clock", "sent_ns": N} at any time: answered at once by a line of its own (`harness.load.clock_answer`).

At the end it waits for ops in flight (10 s at most; cut ones are recorded as info), writes its history and
histograms, and adds its line to generator.jsonl. Logs go to standard error. Imports Locust: never import this
module elsewhere.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.socket
import locust
import msgspec
from locust.env import Environment

from harness.core.clock import NS_PER_MS, NS_PER_S, now_ns
from harness.core.op import OpOutcome
from harness.load.clock_answer import answer_clock
from harness.load.context import LoadContext
from harness.load.feed_user import CUT
from harness.load.lateness import Lateness
from harness.load.plan import LoadPlan, read_plan
from harness.load.pooled_user import PooledUser
from harness.load.recorder import Recorder
from harness.load.schedule import arrivals
from harness.load.shard import Shard
from harness.load.users import USER_CLASSES, SignupUser
from harness.load.work import Work

FIRST_USERS = 10
"""users of each class that is needed, before the pools grow"""
DRAIN_LIMIT_S = 10.0
HASTY_DRAIN_LIMIT_S = 1.0
STATUS_EVERY_S = 1.0
LAG_PROBE_S = 0.02
MAX_ERRORS = 20


class LoopLag(Lateness):
    """How late the event loop wakes a sleeper."""

    def run(self) -> None:
        """Probe for ever."""
        while True:
            wanted_ns = now_ns() + round(LAG_PROBE_S * NS_PER_S)
            gevent.sleep(LAG_PROBE_S)
            self.add(now_ns() - wanted_ns)


class LocustProcess:
    """One process: its plan, its Locust environment, its state."""

    def __init__(self, plan: LoadPlan, name: str, index: int = 0, count: int = 1) -> None:
        self.plan, self.name, self.state = plan, name, "ready"
        self.drain_limit_s = DRAIN_LIMIT_S
        self.lag = LoopLag()
        self.environment = self._environment()
        pools = {kind: cls.__name__ for kind, cls in USER_CLASSES.items()}
        shard = Shard(plan, index, count)
        self.work = Work(shard.of(arrivals(plan)), pools, plan.pool_limit, self._grow)
        self.recorder = Recorder(plan, name)
        self.load = LoadContext(
            shard=shard,
            work=self.work,
            recorder=self.recorder,
            tokens=plan.read_tokens(),
            operator_token=plan.read_operator_token(),
        )
        PooledUser.load = self.load
        PooledUser.results = Results(self.recorder)
        self.started = gevent.event.AsyncResult()

    def run(self) -> None:
        """The life of the process. Returns when everything is written."""
        gevent.signal_handler(signal.SIGTERM, self._terminate)
        background = [gevent.spawn(self.lag.run), gevent.spawn(self._read_commands)]
        self._start_users()
        gc.collect()
        gc.freeze()
        background.append(gevent.spawn(self._report_status))
        t0_ns = self.started.get()
        if t0_ns is not None:
            self.state = "running"
            self.recorder.start(t0_ns)
            self.work.dispatch(t0_ns)
            self.work.wait_idle(lambda: self.drain_limit_s)
        self._end()
        gevent.killall(background)
        self.state = "done"
        self._print_status()

    def _environment(self) -> Environment:
        """A headless Locust environment; listeners registered on `locust.events` fire."""
        classes = list(dict.fromkeys(USER_CLASSES.values()))
        environment = Environment(user_classes=classes, events=locust.events, stop_timeout=0)
        environment.events.user_error.add_listener(self._on_user_error)
        environment.create_local_runner()
        environment.events.init.fire(environment=environment, runner=environment.runner, web_ui=None)
        return environment

    def _start_users(self) -> None:
        """The first users of each class that has arrivals."""
        runner = self.environment.runner
        needed = {USER_CLASSES[arrival.kind].__name__ for arrival in self.work.schedule}
        self.environment.events.test_start.fire(environment=self.environment)
        for name in sorted(needed):
            self.work.pools[name].users = FIRST_USERS
            self._grow(name, FIRST_USERS)
        self.environment.events.spawning_complete.fire(user_count=runner.user_count)

    def _grow(self, class_name: str, count: int) -> None:
        self.environment.runner.spawn_users({class_name: count})

    def _on_user_error(self, user_instance: Any, exception: BaseException, tb: Any) -> None:
        if len(self.load.errors) < MAX_ERRORS:
            self.load.errors.append(f"{type(user_instance).__name__}: {type(exception).__name__}: {exception}")

    def _read_commands(self) -> None:
        for command in read_lines(sys.stdin.fileno()):
            received_ns = now_ns()
            try:
                order = msgspec.json.decode(command, type=dict[str, Any])
            except msgspec.DecodeError:
                logging.warning("not a command: %r", command[:200])
                continue
            if order.get("cmd") == "start" and not self.started.ready():
                self.started.set(int(order["t0_ns"]))
            elif order.get("cmd") == "cut":
                self.work.cut(int(order["end_ns"]))
            elif order.get("cmd") == "clock":
                answer_clock(order, received_ns)
            elif order.get("cmd") == "stop":
                break
        self._stop()

    def _terminate(self) -> None:
        """SIGTERM: end soon, but write everything."""
        self.drain_limit_s = HASTY_DRAIN_LIMIT_S
        self._stop()

    def _stop(self) -> None:
        self.work.stopped.set()
        if not self.started.ready():
            self.started.set(None)

    def _end(self) -> None:
        """Stop the users (their ops in flight become info), write everything."""
        self.environment.runner.quit()
        now = now_ns()
        for pending in self.load.imports.values():
            SignupUser(self.environment).record_import(pending, now, CUT)
        self.recorder.close()
        with self.plan.directory.generator.open("ab") as file:
            file.write(msgspec.json.encode(self.generator_row()) + b"\n")

    def generator_row(self) -> dict[str, Any]:
        """How honest the load was; the judge reads it."""
        work = self.work
        return {
            "process": self.name,
            "kind": "locust",
            "planned": work.planned,
            "sent": work.sent,
            "late": work.late,
            "dropped": work.dropped,
            "skipped": work.skipped,
            "max_late_ms": round(work.max_late_ns / NS_PER_MS, 3),
            "loop_lag_p99_ms": self.lag.p99_ms,
            "loop_lag_max_ms": self.lag.max_ms,
            "completed": work.completed,
            "errors": self.load.errors,
            "left_out": self.plan.left_out,
        }

    def _report_status(self) -> None:
        while True:
            self._print_status()
            gevent.sleep(STATUS_EVERY_S)
            self.recorder.tick()

    def _print_status(self) -> None:
        outcomes = self.recorder.outcomes
        status = {
            "process": self.name,
            "state": self.state,
            "sent": self.work.sent,
            "ok": outcomes[OpOutcome.OK],
            "failed": outcomes[OpOutcome.FAIL],
            "info": outcomes[OpOutcome.INFO],
            "late": self.work.late,
            "dropped": self.work.dropped,
            "lag_p99_ms": self.lag.p99_ms,
            "users": self.environment.runner.user_count,
            "ops": self.recorder.ops_status(),
            "recent": self.recorder.recent_status(),
        }
        sys.stdout.write(msgspec.json.encode(status).decode() + "\n")
        sys.stdout.flush()


class Results:
    """Where the users' ops go: the recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self.next_id = recorder.history.next_id
        self.record = recorder.record


def read_lines(descriptor: int) -> Iterator[bytes]:
    """Lines of a pipe, without blocking the gevent loop; ends with the input."""
    rest = b""
    while True:
        gevent.socket.wait_read(descriptor)
        block = os.read(descriptor, 1 << 16)
        if not block:
            return
        *lines, rest = (rest + block).split(b"\n")
        yield from lines


def main(arguments: list[str]) -> int:
    """Run the plan."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    plan_path, name, index, count = arguments
    LocustProcess(read_plan(Path(plan_path)), name, int(index), int(count)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
