"""One op that is due: what it is, and who shall do it. Made by the schedules, taken by the Locust users. Pure."""

from __future__ import annotations

from enum import StrEnum

import msgspec

READER_PAGE = 50
PANEL_READS = 0.8
"""share of reads made by the panel, the others by readers"""
PANEL_POSTS = 0.25
"""share of posts made by the panel, the others by posters"""


class ArrivalKind(StrEnum):
    """What is due; `harness.load.users` says which class of users takes it."""

    READ = "read"
    POST = "post"
    CELEBRITY = "celebrity"
    SIGNUP = "signup"
    IMPORT_POLL = "import_poll"
    EDGE = "edge"
    """a change of the edge between `plan.edge_pairs[target]`, by the user `actor`; `variant` is the kind of op"""
    DELETE = "delete"
    """`target` is here, and in the kinds down to REPEAT, the number of the POST whose post is meant"""
    HIDE = "hide"
    SHOW = "show"
    MODERATE = "moderate"
    LIFT = "lift"
    REPEAT = "repeat"
    """the same post with the same idempotency key once more"""
    REPLY = "reply"
    LIKE = "like"
    PROBE = "probe"
    """`variant` is that of the op"""


TOUCHES = (ArrivalKind.DELETE, ArrivalKind.HIDE, ArrivalKind.MODERATE)
"""what takes a post out of sight, for good or for a while"""


class Arrival(msgspec.Struct, kw_only=True, frozen=True):
    """One op that is due. `number` counts within its kind."""

    due_ns: int
    """from t0"""
    kind: ArrivalKind
    number: int
    actor: int
    """place in the group that acts (panel, readers, posters, celebrities), or the user who signs up or changes an edge;
    what is chosen at the time (a post to like, a letter to change) is chosen by it as well"""
    panel: bool = False
    limit: int = READER_PAGE
    """page size, should a new walk begin"""
    pages: int = 1
    """length of the walk, should a new one begin; 0: to its end"""
    target: int = -1
    """what is changed; see the kinds"""
    region: str = ""
    """where it must be, when a trace says so; then the actor is somebody from there"""
    variant: str = ""
