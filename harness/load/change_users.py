"""The Locust users who change what others see: edges, posts of their own, moderations.

Importing this module imports Locust, which patches the whole process for gevent.
"""

from __future__ import annotations

from harness.core.clock import NS_PER_S, now_ns
from harness.core.op import OpKind, OpOutcome
from harness.load.arrival_kinds import Arrival, ArrivalKind
from harness.load.pooled_user import POST_TIMEOUT_S, PooledUser
from harness.load.schedule import post_text
from harness.load.sessions import Session
from harness.load.touch_schedule import SEEN_S
from harness.load.written import WrittenPost

_BACK = {ArrivalKind.SHOW, ArrivalKind.LIFT}


class EdgeUser(PooledUser):
    """Follows, unfollows, blocks and unblocks."""

    network_timeout = POST_TIMEOUT_S

    def perform(self, arrival: Arrival, due_ns: int) -> None:
        """One change of an edge."""
        plan = self.load.plan
        pair = plan.edge_pairs[arrival.target]
        other = pair.author if arrival.actor == pair.follower else pair.follower
        identity = plan.identity.replace("{number}", str(other))
        with self.load.client_of(arrival.actor, f"edge-{arrival.number}") as session:
            self.change(OpKind(arrival.variant), session, identity, due_ns, author=other)


class _PostChanger(PooledUser):
    """Does something to a post that was acknowledged a while ago."""

    abstract = True
    network_timeout = POST_TIMEOUT_S

    def perform(self, arrival: Arrival, due_ns: int) -> None:
        """One op on a post; none when it was never acknowledged, or only just now."""
        post = self.load.written.of(arrival.target)
        if post is None or not self.may_change(arrival, post):
            self.skip()
        else:
            self.act(arrival, post, due_ns)

    def may_change(self, arrival: Arrival, post: WrittenPost) -> bool:
        """Whether the post is old enough, or out of sight where it is to be let back."""
        if arrival.kind in _BACK:
            return arrival.target in self.load.out_of_sight
        return arrival.kind is ArrivalKind.REPEAT or now_ns() - post.acked_ns >= SEEN_S * NS_PER_S

    def act(self, arrival: Arrival, post: WrittenPost, due_ns: int) -> None:
        """Do it."""
        raise NotImplementedError

    def touch(self, arrival: Arrival, session: Session, post: WrittenPost, due_ns: int) -> None:
        """One of the writes that take a post out of sight or let it back."""
        if arrival.kind in _BACK:
            self.load.out_of_sight.discard(arrival.target)
        op = self.change(OpKind(arrival.kind), session, post.id, due_ns, post=post.id, author=post.author)
        if op.outcome is not OpOutcome.FAIL and arrival.kind not in _BACK:
            self.load.out_of_sight.add(arrival.target)


class AuthorUser(_PostChanger):
    """Authors who delete, hide and show their posts, and who send one again."""

    def act(self, arrival: Arrival, post: WrittenPost, due_ns: int) -> None:
        """As the post's author."""
        with self.load.client_of(post.author, f"author-{arrival.kind}-{arrival.number}") as session:
            if arrival.kind is ArrivalKind.REPEAT:
                text = post_text(self.load.plan, ArrivalKind.POST, arrival.target)
                self.write_post(session, text, post.key, due_ns)
            else:
                self.touch(arrival, session, post, due_ns)


class OperatorUser(_PostChanger):
    """Whoever operates the target: moderates posts, and lifts that again."""

    def token(self, user: int) -> str:
        """The operator's."""
        return self.load.operator_token

    def act(self, arrival: Arrival, post: WrittenPost, due_ns: int) -> None:
        """As the operator, in the post's region; the row names the post's author."""
        session = Session(f"operator-{arrival.kind}-{arrival.number}", post.author, post.region)
        self.touch(arrival, session, post, due_ns)
