"""The bytes of entries and slots."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reference_server.timeline.entry import (
    ENTRY_BYTES,
    EPOCH_SHIFT,
    SLOT_BYTES,
    Status,
    labels_of,
    make_seq,
    pack_entry,
    status_of,
)
from reference_server.timeline.slots import SLOT_DTYPE

NUMBERS = st.integers(0, (1 << 64) - 1)


LABELS = st.integers(0, 15)
IDS = st.binary(min_size=16, max_size=16)


@given(NUMBERS, IDS, NUMBERS, st.integers(0, (1 << 63) - 1), st.sampled_from(Status), LABELS)
def test_a_slot_reads_back_as_it_was_packed(
    seq: int, post_id: bytes, ts_us: int, author: int, status: Status, labels: int
) -> None:
    slot = seq.to_bytes(8, "big") + pack_entry(post_id, ts_us, author, 0.5, status, labels)
    (row,) = np.frombuffer(slot, SLOT_DTYPE)
    assert (int(row["seq"]), row["id"].tobytes(), int(row["ts_us"])) == (seq, post_id, ts_us)
    assert (int(row["author"]), float(row["score"])) == (author, 0.5)
    assert (status_of(int(row["status"])), labels_of(int(row["status"]))) == (status, labels)


def test_sizes_are_those_of_the_design() -> None:
    assert (ENTRY_BYTES, SLOT_BYTES, SLOT_DTYPE.itemsize) == (37, 45, 45)


def test_slots_sort_by_arrival_as_plain_bytes() -> None:
    entry = pack_entry(bytes(16), 1, 1)
    seqs = [make_seq(1, 5), make_seq(1, 300), make_seq(2, 1), make_seq(256, 0)]
    slots = [seq.to_bytes(8, "big") + entry for seq in seqs]
    assert slots == sorted(slots)
    assert seqs[2] >> EPOCH_SHIFT == 2
