"""How many streams may open, and when those refused are told to come back."""

from __future__ import annotations

from collections import Counter

from reference_server.fep.admission import LONGEST_RETRY_S, Admission


def opened(admission: Admission, now_s: float, wanted: int, opening: int = 0) -> int:
    count = 0
    for _ in range(wanted):
        if admission.may_open(opening, now_s):
            admission.take()
            count += 1
    return count


def test_a_second_s_worth_at_once_then_the_rate() -> None:
    admission = Admission(100, 0.0)
    assert opened(admission, 0.0, 500) == 100
    assert opened(admission, 0.1, 500) == 10
    assert opened(admission, 0.1, 500) == 0
    assert opened(admission, 60.0, 500) == 100


def test_no_more_at_once_than_a_second_opens() -> None:
    admission = Admission(100, 0.0)
    assert opened(admission, 0.0, 10, opening=99) == 10
    assert opened(admission, 0.0, 10, opening=100) == 0


def test_the_rate_may_change() -> None:
    admission = Admission(100, 0.0)
    admission.set_rate(5)
    assert opened(admission, 0.0, 50) == 5
    admission.set_rate(1000)
    assert opened(admission, 0.1, 500) == 100


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    admission = Admission(10, 5.0)
    assert opened(admission, 5.0, 50) == 10
    assert opened(admission, 1.0, 50) == 0


def test_a_storm_is_asked_back_spread_over_the_time_it_needs() -> None:
    admission = Admission(100, 0.0)
    opened(admission, 0.0, 100)
    seconds = Counter(admission.retry_after_s() for _ in range(1000))
    assert set(range(1, 13)) <= set(seconds) <= set(range(1, 14))  # only the last may be sent away for 13
    assert max(seconds.values()) <= 200
    admission.may_open(0, 10.0)
    assert admission.retry_after_s() <= 3


def test_nobody_is_sent_away_for_long() -> None:
    admission = Admission(1, 0.0)
    assert max(admission.retry_after_s() for _ in range(500)) == LONGEST_RETRY_S
