"""What a plan asks for and what a run's rows say was asked for, in the same words: so they can be compared.

Left out is what depends on answers: likes, replies, probes, look-ups, imports; and events, streams, fetches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.core.clock import NS_PER_S
from harness.core.op import Op, OpKind, text_hash
from harness.load.arrival_kinds import Arrival, ArrivalKind
from harness.load.plan import LoadPlan
from harness.load.schedule import arrivals, post_text
from harness.load.shard import Shard

ANSWERS = {ArrivalKind.REPLY, ArrivalKind.LIKE, ArrivalKind.PROBE}
"""arrivals whose op, and whether there is one, depends on what was answered before"""
WRITTEN = {ArrivalKind.POST, ArrivalKind.CELEBRITY, ArrivalKind.REPEAT}
OPS = {ArrivalKind.READ: OpKind.FEED, **dict.fromkeys(WRITTEN, OpKind.POST), ArrivalKind.SIGNUP: OpKind.SIGNUP}
NOT_ASKED = {OpKind.LIKE, OpKind.PROBE, OpKind.FETCH, OpKind.IMPORT, OpKind.FEED_NEW, OpKind.EVENT, OpKind.RESYNC,
             OpKind.STREAM_OPEN, OpKind.STREAM_END}  # fmt: skip

Asked = tuple[str, int, int, str]
"""kind, due from t0, hash of the text, idempotency key"""


def asked_by(plan: LoadPlan) -> dict[Asked, Arrival]:
    """What the plan asks for, as the ops' rows must say it; without what depends on answers."""
    found: dict[Asked, Arrival] = {}
    for a in arrivals(plan):
        if a.kind in ANSWERS:
            continue
        kind = OPS.get(a.kind) or OpKind(a.variant or a.kind)
        post = a.target if a.kind is ArrivalKind.REPEAT else a.number
        text = post_text(plan, ArrivalKind.POST if a.kind is ArrivalKind.REPEAT else a.kind, post)
        written = a.kind in WRITTEN
        key = f"{ArrivalKind.POST if a.kind is ArrivalKind.REPEAT else a.kind}-{post}" if written else ""
        found[kind, a.due_ns, text_hash(text) if written else 0, key] = a
    return found


def asked_in(ops: Iterable[Op], t0_ns: int) -> dict[Asked, Op]:
    """What a run's rows say was asked for; without what depends on answers."""
    kept = [op for op in ops if op.kind not in NOT_ASKED and not op.final]
    keys = {op.id: op.idempotency_key.partition("-")[2] for op in kept}
    return {
        (op.kind, op.due_ns - t0_ns, op.text_hash, keys[op.id]): op
        for op in kept
        if not keys[op.id].startswith(ArrivalKind.REPLY)
    }


def check_who(plan: LoadPlan, found: Mapping[Asked, Op], wanted: Mapping[Asked, Arrival], ops: Sequence[Op]) -> None:
    """The user who was to act did; unless its session was busy, or the author of the post that is meant stood in."""
    by_user: dict[int, list[Op]] = {}
    for op in ops:
        by_user.setdefault(op.user, []).append(op)
    authors = {op.idempotency_key.partition("-")[2]: op.user for op in ops if op.kind is OpKind.POST}
    for key, op in found.items():
        arrival = wanted[key]
        user = Shard(plan).user_of(arrival)
        if arrival.target >= 0 and arrival.kind is not ArrivalKind.EDGE:
            user = authors[f"post-{arrival.target}"]
        same = [other for other in by_user.get(user, ()) if other.id != op.id]
        assert op.user == user or any(o.sent_ns <= op.sent_ns + NS_PER_S and o.done_ns >= op.due_ns for o in same)
