"""A history segment as it lies on disk: frames, each one write, each with the checksum of what it holds.

    {"frame":0,"rows":2,"seen":1,"seen_bytes":97,"bytes":391,"crc":2817263}     header, one line
    {"item":0,"post":"...","ts_us":1,"author":7,"text_hash":9}                    what was seen for the first time
    {"id":1,"kind":"feed",...,"items":[0]}                                        rows: ops, their items by number

Everything is JSON lines, so that any tool can read a segment. A frame that the end of the file cuts off was being
written when its process was killed: it is dropped. Damage anywhere else is an error that names segment and frame.
Reads only; `harness.record.history` writes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from harness.core.errors import ExitCode, FeedstormError
from harness.core.op import Op

SUFFIX = ".jsonl"
ITEM_FIELDS = ("ids", "item_ts_us", "item_authors", "item_hashes")
"""the fields of an op that its `items` stand for"""
_HEADER_LIMIT_BYTES = 512
_FRAME_BEGINS = b'\n{"frame":'


class HistoryError(FeedstormError):
    """The history is damaged: names the segment and the frame. Nothing can be judged on it."""

    exit_code = ExitCode.INCONCLUSIVE


class Header(msgspec.Struct, kw_only=True, frozen=True):
    """First line of a frame."""

    frame: int
    """its number in the segment, from 0"""
    rows: int
    seen: int
    """items that are new in it; their lines come first"""
    seen_bytes: int
    """of these lines"""
    bytes: int
    """of all lines behind the header"""
    crc: int
    """see `checksum`"""


class SeenItem(msgspec.Struct, kw_only=True, frozen=True):
    """An item of a read. Each process writes it once and then names it by its number."""

    item: int
    """from 0, in each segment"""
    post: str
    ts_us: int
    author: int
    text_hash: int


class StoredOp(Op, kw_only=True, omit_defaults=True):
    """An op as a row holds it: `items` instead of the four lists of an op."""

    items: list[int] = msgspec.field(default_factory=list)


def checksum(frame: int, rows: int, seen: int, seen_bytes: int, body: bytes) -> int:
    """CRC-32 of what a header says, and of all lines behind it."""
    return zlib.crc32(body, zlib.crc32(b"%d,%d,%d,%d" % (frame, rows, seen, seen_bytes)))


@dataclass(frozen=True)
class Frame:
    """One whole frame."""

    header: Header
    end: int
    """where the next frame begins in the segment, bytes"""
    body: bytes

    @property
    def item_lines(self) -> bytes:
        """The lines of items that are new in this frame."""
        return self.body[: self.header.seen_bytes]

    @property
    def rows(self) -> list[bytes]:
        """The lines of its ops."""
        return self.body[self.header.seen_bytes :].splitlines()


def read_frames(segment: Path) -> Iterator[Frame]:
    """The whole frames of a segment, in order. A torn tail is left out; raises HistoryError for other damage.

    A segment that is being written to gives what was written so far.
    """
    number = 0
    with segment.open("rb") as file:
        while (frame := _next_frame(file, segment, number)) is not None:
            yield frame
            number += 1


def _next_frame(file: BinaryIO, segment: Path, number: int) -> Frame | None:
    """The next frame; None at the end, and at a torn tail."""
    line = file.readline(_HEADER_LIMIT_BYTES)
    try:
        header = msgspec.json.decode(line, type=Header) if line.endswith(b"\n") else None
    except msgspec.DecodeError:
        header = None
    body = file.read(header.bytes if header else -1)
    if header is None or len(body) < header.bytes or not _is_whole(header, body):
        if _is_tail(line, body) and not file.read(1):
            return None
        raise damage(segment, number, "damaged: its checksum is not what its header names" if header else "no header")
    if header.frame != number:
        raise damage(segment, number, f"calls itself frame {header.frame}")
    return Frame(header, file.tell(), body)


def _is_whole(header: Header, body: bytes) -> bool:
    return checksum(header.frame, header.rows, header.seen, header.seen_bytes, body) == header.crc


def _is_tail(line: bytes, body: bytes) -> bool:
    """Whether this can be the beginning of one frame: the first line whole or not, no other frame behind it."""
    return _FRAME_BEGINS not in body and (line.startswith(_FRAME_BEGINS[1:]) or b"\n" not in line + body)


def damage(segment: Path, frame: int, what: str) -> HistoryError:
    """The error for a damaged frame."""
    return HistoryError(f"history/{segment.name}, frame {frame}: {what}")


def read_segment(segment: Path, kinds: frozenset[str] = frozenset()) -> Iterator[Op]:
    """The ops of a segment, as they were appended; of some kinds only, when kinds are given. Raises HistoryError."""
    decode_op = msgspec.json.Decoder(StoredOp).decode
    decode_item = msgspec.json.Decoder(SeenItem).decode
    wanted = tuple(f'"kind":"{kind}"'.encode() for kind in kinds)
    seen: list[SeenItem] = []
    for frame in read_frames(segment):
        seen += [decode_item(line) for line in frame.item_lines.splitlines()]
        for row in frame.rows:
            if not wanted or any(mark in row for mark in wanted):
                yield _as_op(decode_op(row), seen)


def _as_op(stored: StoredOp, seen: list[SeenItem]) -> Op:
    """The op with its lists again."""
    fields = {name: getattr(stored, name) for name in Op.__struct_fields__}
    items = [seen[number] for number in stored.items]
    lists = (
        [i.post for i in items],
        [i.ts_us for i in items],
        [i.author for i in items],
        [i.text_hash for i in items],
    )
    return Op(**{**fields, **dict(zip(ITEM_FIELDS, lists, strict=True))})
