"""The times of stages: what a worker remembers of posts for them is bounded in number and age."""

from __future__ import annotations

import pytest

from reference_server.events import PostEvent
from reference_server.fanout import stage_times
from reference_server.fanout.stage_times import KEPT_US, StageTimes
from reference_server.flags import Flags

NOW_US = 1_700_000_000_000_000


def post(number: int, ts_us: int = NOW_US, origin: str = "us-east") -> PostEvent:
    return PostEvent(number.to_bytes(16, "big"), 7, ts_us, "text", origin)


@pytest.fixture
def times() -> StageTimes:
    return StageTimes("us-east", Flags)


def test_posts_of_this_region_are_remembered(times: StageTimes) -> None:
    times.read(post(1))
    times.read(post(2, origin="ap-tokyo"))
    assert times.accepted_us(post(1).id) == NOW_US
    assert times.accepted_us(post(2).id) == 0


def test_old_posts_are_forgotten_when_newer_ones_come(times: StageTimes) -> None:
    times.read(post(1))
    times.read(post(2, NOW_US + KEPT_US))
    assert times.accepted_us(post(1).id) == NOW_US
    times.read(post(3, NOW_US + KEPT_US + 1))
    assert [times.accepted_us(post(n).id) > 0 for n in (1, 2, 3)] == [False, True, True]


def test_an_old_post_that_comes_late_is_timed_all_the_same(times: StageTimes) -> None:
    times.read(post(1, NOW_US + 10 * KEPT_US))
    times.read(post(2))
    assert times.accepted_us(post(2).id) == NOW_US


def test_their_number_is_bounded(times: StageTimes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_times, "KEPT", 3)
    for number in range(5):
        times.read(post(number))
    assert [times.accepted_us(post(n).id) > 0 for n in range(5)] == [False, False, True, True, True]
