"""Who is written to at posting, and who when reading: what the flags fanout and two_tier decide for each post.

    fanout   two_tier  hot followers         cold followers
    push     on        now                   now if they have a session or a stream, else at their next first page
    push     off       now                   now
    pull     any       now if they have a stream, else at their next first page (both)
    hybrid   any       a celebrity's as with pull, other authors' as with push
A celebrity is who the author was to the api that accepted the post: with celebrity_warm_list off there are none.
"""

from __future__ import annotations

import numpy as np

from reference_server.fanout.pages import FollowerPage
from reference_server.flags import Flags
from reference_server.timeline.index import Users
from reference_server.timeline.owner import Wake


def divide(page: FollowerPage, lane: int, flags: Flags, *, celebrity: bool) -> tuple[Users, Users, Wake]:
    """A page's followers of a lane: those to write to now, those to write to if the third wakes them."""
    hot, cold = page.hot_of(lane), page.cold_of(lane)
    if flags.fanout == "pull" or (flags.fanout == "hybrid" and celebrity):
        return hot[:0], np.concatenate((hot, cold)), Wake.PRESENT
    if not flags.two_tier:
        return np.concatenate((hot, cold)), cold[:0], Wake.ACTIVE
    return hot, cold, Wake.ACTIVE


def cost_of(page: FollowerPage, flags: Flags, *, celebrity: bool) -> int:
    """What it takes to write a page, in followers written at once: one who is only looked at costs a quarter."""
    hot, cold = len(page.hot), len(page.cold)
    if flags.fanout == "pull" or (flags.fanout == "hybrid" and celebrity):
        return (hot + cold) // 4
    return hot + (cold // 4 if flags.two_tier else cold)
