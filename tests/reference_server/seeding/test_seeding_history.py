"""The history before the run: the same for everyone, spread over 20 h, valid ids."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

import numpy as np
import pytest

from reference_server.seeding import Population, history_posts, history_text
from reference_server.seeding.history import WINDOW_US

END_US = 1_700_000_000_000_000


def people(users: int = 100, history: float = 200, mean_follows: float = 50.0, seed: int = 7) -> Population:
    return Population(
        users=users,
        seed=seed,
        history=history,
        all_joined=True,
        mean_follows=mean_follows,
        celebrities=(),
        celebrity_threshold=0,
        offsets=np.zeros(users + 1, np.int64),
        followees=np.zeros(0, np.uint32),
        hot=np.zeros(0, np.uint8),
        history_end_us=END_US,
    )


def test_same_seed_gives_the_same_posts() -> None:
    one, other = history_posts(people()), history_posts(people())
    assert one.ids.tobytes() == other.ids.tobytes()
    assert (one.authors == other.authors).all()
    assert (one.ts_us == other.ts_us).all()


def test_another_seed_gives_others() -> None:
    assert history_posts(people(seed=1)).ids.tobytes() != history_posts(people(seed=2)).ids.tobytes()


def test_each_user_is_author_of_history_by_mean_follows() -> None:
    posts = history_posts(people(users=30, history=200, mean_follows=50.0))
    assert np.bincount(posts.authors, minlength=30).tolist() == [4] * 30


def test_who_had_not_joined_wrote_nothing() -> None:
    posts = history_posts(replace(people(users=30), late=(0, 7)))
    assert np.bincount(posts.authors, minlength=30).tolist() == [0 if user in (0, 7) else 4 for user in range(30)]


def test_times_are_distinct_ascending_and_within_20_h() -> None:
    ts_us = history_posts(people(users=5000)).ts_us.astype(np.int64)
    assert (np.diff(ts_us) > 0).all()
    assert ts_us[0] >= END_US - WINDOW_US
    assert ts_us[-1] < END_US


def test_ids_are_uuid7_of_the_post_time() -> None:
    posts = history_posts(people(users=5))
    for raw, ts_us in zip(posts.ids, posts.ts_us, strict=True):
        parsed = uuid.UUID(bytes=raw.tobytes())
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert int.from_bytes(raw.tobytes()[:6], "big") == int(ts_us) // 1000


@pytest.mark.parametrize("nothing", [{"history": 0.0}, {"mean_follows": 0.0}, {"all_joined": False}])
def test_no_history(nothing: dict[str, float]) -> None:
    assert len(history_posts(replace(people(), **nothing))) == 0


def test_text_depends_on_the_id_alone() -> None:
    posts = history_posts(people(users=50))
    texts = {history_text(raw.tobytes()) for raw in posts.ids}
    assert len(texts) == len(posts)
    assert history_text(b"\1" * 16) == history_text(b"\1" * 16)
    assert all(1 <= len(text) <= 500 for text in texts)


def test_eighty_thousand_posts_are_fast() -> None:
    began = time.process_time()
    assert len(history_posts(people(users=20_000))) == 80_000
    assert time.process_time() - began < 1.0
