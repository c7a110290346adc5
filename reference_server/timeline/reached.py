"""Who has got a post while its pages are still being written: a byte a user of the lane, whatever the followers."""

from __future__ import annotations

import numpy as np

from reference_server.timeline.index import Users


class Reached:
    """The users of one lane that one post has reached. Only users of the lane may be asked about."""

    def __init__(self, lane_users: Users) -> None:
        """`lane_users`: all of the lane, ascending."""
        self._lane_users = lane_users
        self._has = np.zeros(len(lane_users), np.bool_)

    def add(self, users: Users) -> None:
        """These have got it."""
        self._has[np.searchsorted(self._lane_users, users)] = True

    def lacking(self, users: Users) -> Users:
        """Those among `users` that have not got it."""
        return users[~self._has[np.searchsorted(self._lane_users, users)]]
