"""What a check works with: users of its own, and ways to say what must hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from harness.contract.client import FeedClient, Post, Result
from harness.contract.profile import Profile
from harness.core.seeds import rng

T = TypeVar("T")
POLL_S = 0.05
WHOLE_PAGE = 100


class Violation(Exception):
    """The target did what the contract forbids."""


class Unanswered(Exception):
    """The target said neither yes nor no (no answer, 429, 503): nothing is shown."""


@dataclass(frozen=True)
class Member:
    """A signed-up user of a check."""

    number: int
    id: str
    api: FeedClient
    """talks to the check's home region as this user"""


@dataclass
class Trial:
    """One run of one check. `observed` counts what was compared."""

    name: str
    profile: Profile
    client: FeedClient
    """nobody, at the home region"""
    home: str
    identities: Iterator[int]
    seed: int
    observed: int = 0
    written: list[str] = field(default_factory=list, init=False)
    """ids of the posts of this check; others may appear where identities inherited follows, and are passed over"""

    async def member(self) -> Member:
        """A user nobody else uses, signed up in the home region, with its import finished."""
        number = next(self.identities, None)
        if number is None:
            raise Unanswered("the target has too few identities for all checks")
        signed = self.done(await self.client.sign_up(self.profile.users.identity_of(number)), "sign-up")
        member = Member(number, signed.user.id, self.client.user(signed.token))
        if self.profile.capabilities.imports and signed.imports.state != "done":
            await self.eventually(
                lambda: _imported(member), self.profile.slo.convergence_s, "the import of a user to finish"
            )
        return member

    def operator(self, region: str = "") -> FeedClient:
        """Whoever runs the target, at the home region or another. Raises Unanswered when the token cannot be read."""
        try:
            token = Path(self.profile.operator_token_file).read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise Unanswered(f"operator token: {error}") from None
        return self.client.at(self.profile.regions[region or self.home]).user(token)

    async def follower_of(self, author: Member) -> Member:
        """A new user who follows the author."""
        member = await self.member()
        self.done(await member.api.follow(author.id), "follow")
        return member

    async def post(self, author: Member, reply_to: str | None = None, labels: Sequence[str] = ()) -> Post:
        """A post of the author, acknowledged."""
        answer = await author.api.post(f"conformance {self.name} {len(self.written)}", reply_to, labels=labels)
        post = self.done(answer, "post").post
        self.written.append(post.id)
        return post

    def ours(self, posts: Iterable[Post]) -> list[str]:
        """Ids of those that this check wrote, in their order."""
        return [post.id for post in posts if post.id in self.written]

    async def feed_ids(self, member: Member) -> list[str]:
        """Ids of the first page, as large as may be."""
        return [post.id for post in self.done(await member.api.feed(WHOLE_PAGE), "feed").items]

    def done(self, result: Result[T], what: str) -> T:
        """The value of a call that must succeed. Raises Unanswered or Violation."""
        if result.away:
            raise Unanswered(f"{what}: {result.error}")
        if not result.ok:
            raise Violation(f"{what}: answered {result.error}")
        return result.value  # type: ignore[return-value]

    def refused(self, result: Result[T], status: int | range, what: str) -> None:
        """The call must be refused with that status, by a problem document."""
        allowed = status if isinstance(status, range) else range(status, status + 1)
        if result.away:
            raise Unanswered(f"{what}: {result.error}")
        self.holds(result.status in allowed, f"{what}: expected {_named(allowed)}, got {result.status} {result.error}")
        content_type = result.headers.get("content-type", "")
        self.holds(result.problem is not None, f"{what}: the error is no problem document but {content_type!r}")
        if result.problem is not None:
            said = result.problem.status
            self.holds(said == result.status, f"{what}: status is {result.status}, its problem document says {said}")

    def holds(self, condition: bool, otherwise: str) -> None:
        """What must be true. Raises Violation with the sentence."""
        self.observed += 1
        if not condition:
            raise Violation(otherwise)

    async def eventually(self, probe: Callable[[], Awaitable[bool]], within_s: float, what: str) -> None:
        """The probe must become true in time. Raises Violation."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + within_s
        while not await probe():
            if clock() >= deadline:
                raise Violation(f"waited {within_s:g} s for {what}")
            await asyncio.sleep(POLL_S)
        self.observed += 1

    async def shows(self, reader: Member, post: Post, within_s: float | None = None) -> None:
        """The post must appear in the reader's feed in time (by default within visibility)."""

        async def probe() -> bool:
            return post.id in await self.feed_ids(reader)

        await self.eventually(probe, within_s or self.profile.slo.visibility_s, "a post to appear in a follower's feed")

    async def hides(self, reader: Member, post: Post, what: str, within_s: float | None = None) -> None:
        """The post must disappear from the reader's feed in time (by default within visibility)."""

        async def probe() -> bool:
            return post.id not in await self.feed_ids(reader)

        await self.eventually(probe, within_s or self.profile.slo.visibility_s, f"{what} to leave a feed")

    def other_region(self) -> str:
        """A region that is not the home region."""
        return next(name for name in self.profile.regions if name != self.home)

    def elsewhere(self, member: Member) -> Member:
        """The same user at the other region."""
        return Member(member.number, member.id, member.api.at(self.profile.regions[self.other_region()]))


def identity_order(profile: Profile, users: int, seed: int) -> list[int]:
    """The free identities in a seeded order, the upper half first: celebrities of a population come first in it."""
    numbers = profile.users.numbers(users)
    middle = len(numbers) // 2
    draw = rng(seed, "conformance", "identities")
    upper = draw.permutation(list(numbers[middle:])).tolist()
    return [int(n) for n in [*upper, *draw.permutation(list(numbers[:middle])).tolist()]]


async def _imported(member: Member) -> bool:
    state = await member.api.import_state()
    return state.value is not None and state.value.state == "done"


def _named(statuses: range) -> str:
    return str(statuses.start) if len(statuses) == 1 else f"{statuses.start} to {statuses.stop - 1}"
