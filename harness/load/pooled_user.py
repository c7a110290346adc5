"""Locust users in pools: each takes the next arrival of its class from `harness.load.work` when it is due."""

from __future__ import annotations

from locust import constant, task

from harness.load.arrival_kinds import Arrival
from harness.load.context import LoadContext
from harness.load.feed_user import FeedUser

POST_TIMEOUT_S = 10.0


class PooledUser(FeedUser):
    """One of a pool: takes the next arrival of its class, does it, and is free again."""

    abstract = True
    wait_time = constant(0)
    load: LoadContext
    """set on the class by the process that runs it"""

    def api(self, region: str) -> str:
        """From the plan."""
        return self.load.plan.regions[region].api

    def token(self, user: int) -> str:
        """From the tokens file, or from the sign-up."""
        return self.load.tokens.get(user, "")

    @task  # type: ignore[untyped-decorator]
    def one_arrival(self) -> None:
        """Do one op."""
        name = type(self).__name__
        arrival = self.load.work.take(name)
        try:
            self.perform(arrival, self.load.work.t0_ns + arrival.due_ns)
        finally:
            self.load.work.done(name)

    def perform(self, arrival: Arrival, due_ns: int) -> None:
        """Do the op of an arrival."""
        raise NotImplementedError

    def skip(self) -> None:
        """Nobody could do it."""
        self.load.work.skip()
