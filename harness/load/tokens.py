"""Gets the tokens of a run's users before the load starts, by signing them up. Records nothing.

Sign-up is idempotent (docs/contract.md), so a refused or lost request is simply sent again. Returns when every
user's import is finished. asyncio; runs in the process of `harness.run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TypeVar

import aiohttp
import msgspec

from harness.core.errors import UnavailableError, foremost
from harness.load.members import plan_users
from harness.load.plan import LoadPlan, PlanRegion
from harness.load.wire import IMPORT_DONE, ImportAnswer, SignUpAnswer

CONCURRENCY = 64
TIMEOUT_S = 10.0
DEADLINE_S, LEAST_PER_S = 120.0, 250.0
TRIES = 6
FIRST_RETRY_S = 0.1
IMPORT_POLL_S = 0.2
_AGAIN = (429, 500, 502, 503, 504)

T = TypeVar("T")


async def obtain_tokens(
    plan: LoadPlan, users: Mapping[int, str] | None = None, deadline_s: float | None = None
) -> dict[int, str]:
    """A token for each user, signed up in the region given with it; by default for all users of the plan.

    Raises UnavailableError when the target refuses one or is not done in time: by default two minutes, and a second
    more for each 250 users.
    """
    users = plan_users(plan) if users is None else users
    deadline_s = DEADLINE_S + len(users) / LEAST_PER_S if deadline_s is None else deadline_s
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as http:
        signing = _SignUps(plan.regions, plan.identity, http)
        waiting = iter(users.items())
        try:
            async with asyncio.timeout(deadline_s), asyncio.TaskGroup() as group:
                for _ in range(min(CONCURRENCY, len(users))):
                    group.create_task(signing.work(waiting))
        except TimeoutError:
            raise UnavailableError(
                f"sign-up: {len(signing.tokens)} of {len(users)} users had joined after {deadline_s:g} s; "
                "is the target overloaded?"
            ) from None
        except BaseExceptionGroup as group_error:
            raise foremost(group_error) from None
    return signing.tokens


class _SignUps:
    """Workers that share a queue of users."""

    def __init__(self, regions: Mapping[str, PlanRegion], identity: str, http: aiohttp.ClientSession) -> None:
        self._regions, self._identity, self._http = regions, identity, http
        self.tokens: dict[int, str] = {}

    async def work(self, waiting: Iterator[tuple[int, str]]) -> None:
        """Take users until none is left."""
        for user, region in waiting:
            self.tokens[user] = await self._join(user, self._regions[region].api)

    async def _join(self, user: int, api: str) -> str:
        body = msgspec.json.encode({"identity": self._identity.replace("{number}", str(user))})
        answer = await self._call(f"sign-up of user {user}", "POST", f"{api}/v1/users", SignUpAnswer, body=body)
        state = answer.imports.state
        while state != IMPORT_DONE:
            await asyncio.sleep(IMPORT_POLL_S)
            what = f"import of user {user}"
            polled = await self._call(what, "GET", f"{api}/v1/users/me/import", ImportAnswer, token=answer.token)
            state = polled.state
        return answer.token

    async def _call(
        self, what: str, method: str, url: str, kind: type[T], body: bytes | None = None, token: str = ""
    ) -> T:
        """One request, sent again while the target is away or overloaded. Raises UnavailableError."""
        headers = {"Content-Type": "application/json"} if body else {"Authorization": f"Bearer {token}"}
        problem = ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(FIRST_RETRY_S * 2 ** (attempt - 1))
            try:
                async with self._http.request(method, url, data=body, headers=headers) as response:
                    content = await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if 200 <= response.status < 300:
                return _decode(what, url, content, kind)
            problem = f"{response.status} {content[:200].decode(errors='replace')}"
            if response.status not in _AGAIN:
                break
        raise UnavailableError(f"{what} at {url}: {problem}")


def _decode(what: str, url: str, content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise UnavailableError(f"{what} at {url}: the answer does not meet the contract: {error}") from error
