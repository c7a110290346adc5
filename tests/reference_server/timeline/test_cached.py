"""The cached value and its way to a page."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reference_server.timeline.cached import for_display, make_value, newest, read_value
from reference_server.timeline.entry import pack_entry


def slot(seq: int, post: int, ts_us: int) -> bytes:
    return seq.to_bytes(8, "big") + pack_entry(post.to_bytes(16, "big"), ts_us, 1)


def test_a_value_reads_back() -> None:
    value = make_value(3, 9, slot(5, 1, 1))
    assert read_value(value + slot(10, 2, 2)) == (3, 9, slot(5, 1, 1) + slot(10, 2, 2))


def test_a_placeholder_is_no_timeline() -> None:
    assert read_value(b"") is None
    assert read_value(slot((1 << 48) + 5, 1, 1)) is None


def test_a_torn_value_is_no_timeline() -> None:
    assert read_value(make_value(0, 0, slot(5, 1, 1))[:-1]) is None


POSTS = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 5)), max_size=60)


@given(POSTS)
def test_display_is_newest_first_and_has_each_post_once_with_its_first_arrival(posts: list[tuple[int, int]]) -> None:
    slots = b"".join(slot(seq, post, 1000 + post // 2) for seq, (post, _) in enumerate(posts, 1))
    shown = for_display(slots)
    first = {}
    for seq, (post, _) in enumerate(posts, 1):
        first.setdefault(post, seq)
    wanted = sorted(first.items(), key=lambda item: (1000 + item[0] // 2, item[0]), reverse=True)
    assert [(int.from_bytes(row["id"].tobytes(), "big"), int(row["seq"])) for row in shown] == wanted


def test_newest_drops_repeats_and_sorts_by_arrival() -> None:
    slots = [slot(seq, seq, 1) for seq in (4, 2, 3, 2, 1, 4)]
    assert newest(b"".join(slots), 3) == slot(2, 2, 1) + slot(3, 3, 1) + slot(4, 4, 1)
