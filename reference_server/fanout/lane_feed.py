"""A lane as one stream's feeder sees it: which entries of the stream it has in its log, and how far it is with others.

The log's position says that everything up to it is complete. Behind it a lane may have begun several entries, and have
completed some of them before an earlier one: each has a progress of its own, written in the same batch as the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reference_server.events import PostEvent
from reference_server.fanout.pages import FollowerPage
from reference_server.fanout.tiers import divide
from reference_server.flags import Flags
from reference_server.timeline.entry import pack_entry
from reference_server.timeline.measures import LANE_POSITION
from reference_server.timeline.owner import LaneOwner, PostPage, Removal
from reference_server.timeline.wal import COMPLETE, Progress

Position = tuple[int, int]
WALK = 100_000
"""part numbers of a post: page + WALK * repeated walk"""


def parse_position(text: str) -> Position:
    """A stream entry's id as comparable numbers."""
    ms, _, number = text.partition("-")
    return int(ms), int(number or 0)


def format_position(position: Position) -> str:
    """A stream entry's id."""
    return f"{position[0]}-{position[1]}"


class Post:
    """A post on its way from the queue to the lanes."""

    def __init__(self, stream: str, position: Position, event: PostEvent) -> None:
        self.position, self.event = position, event
        self.source = f"{stream}:{format_position(position)}".encode()
        self.entry = pack_entry(event.id, event.ts_us, event.author, labels=event.labels)

    def page(self, page: FollowerPage, part: int, lane: int, flags: Flags, *, last: bool) -> PostPage:
        """One page of followers, those of one lane, as the flags want them treated."""
        hot, cold, wake = divide(page, lane, flags, celebrity=self.event.celeb)
        event, is_repeat = self.event, part >= WALK
        return PostPage(self.source, event.id, event.author, self.entry, hot, cold, part, last, wake, is_repeat)


class LaneFeed:
    """See the module."""

    def __init__(self, lane: int, owner: LaneOwner, stream: str) -> None:
        self.lane, self.owner, self.stream = lane, owner, stream
        position, progresses = owner.wal.position(stream)
        self.position = parse_position(position)
        self._begun = {parse_position(one.position): _resumable(one) for one in progresses}

    def progress(self, position: Position) -> Progress | None:
        """How far the lane is with an entry behind its position; None: not begun."""
        return self._begun.get(position)

    def wants(self, position: Position, part: int = 0) -> bool:
        """Whether that part of that entry is still to be written."""
        if position <= self.position:
            return False
        begun = self._begun.get(position)
        return begun is None or (begun.page != COMPLETE and part >= begun.page)

    def lacks(self, position: Position) -> bool:
        """Whether the entry is not complete in the lane."""
        begun = self._begun.get(position)
        return position > self.position and (begun is None or begun.page != COMPLETE)

    def write_upto(self, items: Sequence[PostPage | Removal], done: Position, begun: Progress | None) -> None:
        """Write items of a stream that is worked off in order: complete up to `done`, and that far behind it."""
        if begun is not None and not self.wants(parse_position(begun.position), begun.page):
            return  # the lane is ahead
        if done <= self.position and not items and begun is None:
            return
        self.position = max(self.position, done)
        self._begun = {} if begun is None else {parse_position(begun.position): begun}
        self._write(items)

    def write_some(
        self, items: Sequence[PostPage | Removal], position: Position, progress: Progress, order: Iterable[Position]
    ) -> None:
        """Write items of one entry, which may stand behind others that are not complete.

        `order`: the entries behind the lane's position, none left out, up to those that were begun.
        """
        self._begun[position] = progress
        for entry in order:
            if entry <= self.position:
                continue
            begun = self._begun.get(entry)
            if begun is None or begun.page != COMPLETE:
                break
            del self._begun[entry]
            self.position = entry
        self._write(items)

    def _write(self, items: Sequence[PostPage | Removal]) -> None:
        self.owner.write(items, self.stream, format_position(self.position), tuple(self._begun.values()))
        LANE_POSITION.labels(str(self.lane), self.stream).set(self.position[0] / 1000)


def complete(position: Position, post_id: bytes) -> Progress:
    """The progress of an entry that is done with."""
    return Progress(format_position(position), COMPLETE, post_id)


def _resumable(progress: Progress) -> Progress:
    """A repeated walk that was cut off begins from the first page: the list may have changed again."""
    return progress if progress.page < WALK else Progress(progress.position, 0, progress.post_id)
