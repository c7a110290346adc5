"""Properties of slots and cached values: whatever order appends came in, however often, a reader sees the same."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from reference_server.timeline.cached import HEADER_BYTES, for_display, make_value, read_value
from reference_server.timeline.display import newest_first
from reference_server.timeline.entry import SLOT_BYTES, Status, labels_of, make_seq, pack_entry, status_of, with_status

U64 = st.integers(0, (1 << 64) - 1)
EPOCHS, RECORDS = st.integers(0, 0xFFFE), st.integers(0, (1 << 48) - 1)
POSTS = st.dictionaries(st.binary(min_size=16, max_size=16), st.integers(0, 3).map(lambda n: 10**15 + n), max_size=150)


def slots_of(posts: dict[bytes, int], seed: int) -> list[bytes]:
    """A slot a post, some twice under a later number, in any order."""
    drawn = random.Random(seed)
    entries = [pack_entry(post_id, ts_us, 7) for post_id, ts_us in posts.items()]
    entries += drawn.sample(entries, len(entries) // 3)
    slots = [make_seq(3, number).to_bytes(8, "big") + entry for number, entry in enumerate(entries, 1)]
    drawn.shuffle(slots)
    return slots


@given(EPOCHS, RECORDS, EPOCHS, RECORDS)
def test_arrival_numbers_and_slots_have_one_order(epoch: int, record: int, other_epoch: int, other: int) -> None:
    entry, last = pack_entry(bytes(16), 0, 0), pack_entry(b"\xff" * 16, (1 << 64) - 1, -1)
    one, two = make_seq(epoch, record), make_seq(other_epoch, other)
    assert (one < two) == ((epoch, record) < (other_epoch, other))
    if one < two:
        assert one.to_bytes(8, "big") + last < two.to_bytes(8, "big") + entry


@given(st.sampled_from(Status), st.integers(0, 15), st.sampled_from(Status))
def test_a_status_changes_alone(status: Status, labels: int, other: Status) -> None:
    byte = pack_entry(bytes(16), 0, 0, status=status, labels=labels)[-1]
    assert (status_of(with_status(byte, other)), labels_of(with_status(byte, other))) == (other, labels)
    assert with_status(with_status(byte, other), status) == byte


@given(POSTS, st.integers(0, 999), st.integers(0, 999))
def test_display_does_not_depend_on_the_order_of_appends_and_changes_nothing_twice(
    posts: dict[bytes, int], seed: int, shuffle: int
) -> None:
    slots = slots_of(posts, seed)
    shown = for_display(b"".join(slots)).tobytes()
    random.Random(shuffle).shuffle(slots)
    assert for_display(b"".join(slots)).tobytes() == shown
    assert for_display(shown).tobytes() == shown
    assert len(shown) == SLOT_BYTES * len(posts)


@given(POSTS, st.integers(0, 999), st.integers(0, 200))
def test_reading_on_from_any_place_brings_exactly_the_rest(posts: dict[bytes, int], seed: int, place: int) -> None:
    raw = b"".join(slots_of(posts, seed))
    wanted = sorted(((ts_us, post_id) for post_id, ts_us in posts.items()), reverse=True)
    assert [(int(row["ts_us"]), row["id"].tobytes()) for row in for_display(raw)] == wanted
    after = wanted[min(place, len(wanted)) - 1] if wanted and place else None
    rest = [(row[1], row[0]) for rows in newest_first(raw, after) for row in rows]
    assert rest == [key for key in wanted if after is None or key < after]


@given(U64, U64, U64, U64, POSTS, st.integers(0, 999))
def test_a_value_and_what_was_appended_to_it_read_back(
    floor: int, upto: int, horizon_us: int, cut_us: int, posts: dict[bytes, int], seed: int
) -> None:
    slots = slots_of(posts, seed)
    half = len(slots) // 2
    value = make_value(floor, upto, b"".join(slots[:half]), horizon_us, cut_us)
    assert len(value) == HEADER_BYTES + half * SLOT_BYTES
    assert read_value(value + b"".join(slots[half:])) == (floor, upto, b"".join(slots), horizon_us, cut_us)


@given(st.binary(max_size=200), st.booleans())
def test_anything_else_is_read_as_nothing_or_as_whole_slots(garbage: bytes, with_magic: bool) -> None:
    timeline = read_value((make_value(0, 0, b"")[:4] if with_magic else b"") + garbage)
    assert timeline is None or len(timeline.slots) % SLOT_BYTES == 0


@given(POSTS, st.integers(0, 999))
def test_appends_to_a_lease_never_look_like_a_timeline(posts: dict[bytes, int], seed: int) -> None:
    assert read_value(b"".join(slots_of(posts, seed))) is None
