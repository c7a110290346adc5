"""The cached value and its way to a page."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reference_server.timeline.cached import CachedTimeline, for_display, make_value, newest_part, read_value
from reference_server.timeline.entry import pack_entry


def slot(seq: int, post: int, ts_us: int) -> bytes:
    return seq.to_bytes(8, "big") + pack_entry(post.to_bytes(16, "big"), ts_us, 1)


def test_a_value_reads_back() -> None:
    value = make_value(3, 9, slot(5, 1, 1), 17, 5)
    assert read_value(value + slot(10, 2, 2)) == (3, 9, slot(5, 1, 1) + slot(10, 2, 2), 17, 5)


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


PARTS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 30)), max_size=50)
"""(post, time); in order of arrival"""


@given(PARTS, st.integers(1, 12), st.integers(0, 20))
def test_the_newest_part_has_what_arrived_last_and_what_shows_first(
    posts: list[tuple[int, int]], count: int, cut_us: int
) -> None:
    slots = [slot(seq, post, ts_us) for seq, (post, ts_us) in enumerate(posts, 1)]
    whole = CachedTimeline(0, 99, b"".join([*reversed(slots), *slots[:3]]), 7, cut_us)
    part = newest_part(whole, count)
    kept = [part.slots[place : place + 45] for place in range(0, len(part.slots), 45)]
    assert kept == sorted(kept)
    assert set(slots[-count:]) <= set(kept) <= set(slots)
    times = {one: int.from_bytes(one[24:32], "big") for one in slots}
    left = [times[one] for one in slots if one not in kept]
    assert {one for one in slots if times[one] > part.cut_us} <= set(kept)
    assert part.cut_us == max([cut_us, *left])
    if part.cut_us > cut_us:
        assert sum(times[one] > part.cut_us for one in slots) >= count
    assert all(int.from_bytes(one[:8], "big") < part.floor for one in slots if one not in kept)
    assert part.floor == 0 or left
    assert (part.upto, part.horizon_us) == (99, 7)
