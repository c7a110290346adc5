"""A Locust test as it is mostly written: `python -m benchmarks._plain_users PORT USERS RATE SECONDS`.

So many FastHttpUsers, each of which holds its share of RATE requests a second by `constant_throughput`. Prints what
Locust's own table shows at the end, as one JSON line.
"""

from __future__ import annotations

import sys

import gevent
import locust
import msgspec
from locust import constant_throughput, task
from locust.contrib.fasthttp import FastHttpUser
from locust.env import Environment


class PlainUser(FastHttpUser):  # type: ignore[misc]
    """Asks for a page, again and again."""

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        """One request."""
        self.client.get("/v1/feed", name="feed")


def main(port: int, users: int, rate_per_s: float, seconds: float) -> None:
    """Run them, print one line."""
    PlainUser.host = f"http://127.0.0.1:{port}"
    PlainUser.wait_time = constant_throughput(rate_per_s / users)
    environment = Environment(user_classes=[PlainUser], events=locust.events, stop_timeout=0)
    environment.create_local_runner()
    environment.runner.spawn_users({PlainUser.__name__: users})
    gevent.sleep(seconds)
    environment.runner.quit()
    total = environment.stats.total
    shown = {f"p{percent}": total.get_response_time_percentile(percent / 100) for percent in (50, 95, 99)}
    said = {
        **shown,
        "max": round(total.max_response_time, 1),
        "count": total.num_requests,
        "failed": total.num_failures,
    }
    print(msgspec.json.encode(said).decode())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
