"""The users of a feed for plain Locust: `locust -f scenarios/locustfile.py --host http://127.0.0.1:8080`.

Works with the web UI, headless, and with master and workers. Each user signs up by identity, then reads pages or
posts at its own seeded Poisson pace; latency counts from the due time. Fails what is not 2xx and pages out
of order. Rates and users come from the command line, the web form, or FEEDSTORM_* variables (`locust --help`).

`feedstorm run` drives the same ops by a plan, with a verdict; this file is for looking around by hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from locust import events, task
from locust.exception import StopUser

from harness.core.clock import NS_PER_S, now_ns
from harness.core.op import Op, OpKind
from harness.core.seeds import rng
from harness.load.feed_user import FeedUser
from harness.load.schedule import PAGE_SIZES, WALK_PAGES, WALK_WEIGHTS
from harness.load.sessions import Session
from harness.load.wire import SeenPost
from harness.record.history import Shown

REGION = "target"
WORKER_STRIDE = 97
"""worker w takes the identities w, w + 97, w + 194, ..."""


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_arguments(parser: Any) -> None:
    """The options of this file."""
    group = parser.add_argument_group("feedstorm")
    group.add_argument("--feed-users", type=int, default=1000, env_var="FEEDSTORM_USERS", help="identities there are")
    group.add_argument("--feed-first", type=int, default=0, env_var="FEEDSTORM_FIRST", help="number of the first one")
    group.add_argument(
        "--feed-identity", default="{number}", env_var="FEEDSTORM_IDENTITY", help="what user {number} signs up with"
    )
    group.add_argument(
        "--feed-rate", type=float, default=1.0, env_var="FEEDSTORM_RATE", help="reads or posts a second of each user"
    )
    group.add_argument("--feed-seed", type=int, default=42, env_var="FEEDSTORM_SEED", help="seed of paces and pages")


class Uncounted:
    """Numbers ops and keeps none: Locust's statistics are the result."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def next_id(self) -> int:
        """A new op id."""
        return next(self._ids)

    def record(self, op: Op, shown: Sequence[Shown] = ()) -> None:
        """Nothing is kept."""


class Member(FeedUser):
    """A user with an identity of its own, at its own pace."""

    abstract = True
    results = Uncounted()
    _numbers = itertools.count()

    def on_start(self) -> None:
        """Sign up; the first op is due within a second or so."""
        options = self.environment.parsed_options
        worker = max(0, getattr(self.environment.runner, "worker_index", 0))
        number = options.feed_first + (worker + WORKER_STRIDE * next(self._numbers)) % options.feed_users
        self._random = rng(options.feed_seed, "locustfile", type(self).__name__, number)
        self._gap_ns = NS_PER_S / options.feed_rate
        self._session = Session(f"{type(self).__name__}-{number}", number, REGION)
        self._token = ""
        self._posts = itertools.count()
        _, answer = self.sign_up(self._session, options.feed_identity.replace("{number}", str(number)), now_ns())
        if answer is None:
            raise StopUser
        self._token = answer.token
        self._due_ns = now_ns()
        self.wait()

    def wait_time(self) -> float:
        """Seconds until the next op is due, 0 when it is overdue: a slow answer delays no due time."""
        self._due_ns += round(self._random.exponential(self._gap_ns))
        return max(0.0, (self._due_ns - now_ns()) / NS_PER_S)

    def api(self, region: str) -> str:
        """The host given to Locust."""
        return str(self.host).rstrip("/")

    def token(self, user: int) -> str:
        """From the sign-up."""
        return self._token

    def problem(self, op: Op, shown: Sequence[SeenPost]) -> str:
        """Pages are newest first, each post once."""
        if op.kind is not OpKind.FEED:
            return ""
        keys = [(post.created_at_us, post.id) for post in shown]
        return "" if all(a > b for a, b in itertools.pairwise(keys)) else "page is not in order"


class ReaderUser(Member):
    """Walks through its feed, a page at a time."""

    weight = 4

    @task  # type: ignore[untyped-decorator]
    def read(self) -> None:
        """One page."""
        limit = int(self._random.choice(PAGE_SIZES))
        pages = int(self._random.choice(WALK_PAGES, p=WALK_WEIGHTS))
        self.read_page(self._session, self._due_ns, limit, pages)


class PosterUser(Member):
    """Posts, and reads now and then."""

    weight = 1

    @task(3)  # type: ignore[untyped-decorator]
    def post(self) -> None:
        """One post."""
        number = next(self._posts)
        text = f"{self._session.name} says {number} at {self._due_ns}"
        self.write_post(self._session, text, f"{self._session.name}-{self._due_ns}", self._due_ns)

    @task(1)  # type: ignore[untyped-decorator]
    def read(self) -> None:
        """The first page."""
        self.read_page(self._session, self._due_ns, PAGE_SIZES[-1], 1)


class CelebrityUser(PosterUser):
    """Posts like everybody, but there is one of it."""

    fixed_count = 1
