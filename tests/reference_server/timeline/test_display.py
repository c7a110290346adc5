"""Reading a timeline newest first gives what sorting all of it would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reference_server.timeline import display
from reference_server.timeline.cached import for_display
from reference_server.timeline.display import Key, TimelineView, newest_first
from reference_server.timeline.entry import make_seq, pack_entry

POSTS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), max_size=300)
"""(post number, seconds it comes late)"""


def ts_of(post: int) -> int:
    return 1000 + post // 3


def raw_of(posts: list[tuple[int, int]]) -> bytes:
    return b"".join(
        make_seq(1, seq).to_bytes(8, "big") + pack_entry(post.to_bytes(16, "big"), ts_of(post), post % 5)
        for seq, (post, _) in enumerate(sorted(posts, key=sum), 1)
    )


def places(raw: bytes, after: Key | None) -> list[Key]:
    return [(row[1], row[0]) for rows in newest_first(raw, after) for row in rows]


@given(POSTS, st.integers(1, 8))
def test_pieces_make_the_whole_whatever_their_size(posts: list[tuple[int, int]], chunk: int) -> None:
    raw = raw_of(posts)
    wanted = [(int(row["ts_us"]), row["id"].tobytes()) for row in for_display(raw)]
    usual, display.CHUNK = display.CHUNK, chunk
    try:
        assert places(raw, None) == wanted
        for post in (0, 7, 20, 41):
            after = (ts_of(post), post.to_bytes(16, "big"))
            assert places(raw, after) == [place for place in wanted if place < after]
    finally:
        display.CHUNK = usual
    assert TimelineView(raw).last() == (wanted[-1] if wanted else None)


def test_a_view_knows_whether_something_may_be_missing_below() -> None:
    assert TimelineView(b"", floor=make_seq(3, 0)).is_whole
    assert not TimelineView(b"", floor=make_seq(3, 1)).is_whole
    assert not TimelineView(b"", floor=make_seq(3, 0), horizon_us=5).is_whole
    assert not TimelineView(b"", source="durable").is_whole
