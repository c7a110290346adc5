"""The parts of the gate by themselves: routes, buckets, callers, limit, levels, refusals, pulse."""

from __future__ import annotations

import asyncio
import itertools
import time
from types import SimpleNamespace

import pytest

from reference_server.api.cursors import make_cursor
from reference_server.api.defects import CursorDefects
from reference_server.api.feed import page_json
from reference_server.api.overload import body, refusals
from reference_server.api.overload.body import MAX_AWAITED, Bodies, Message
from reference_server.api.overload.callers import STRANGER, Callers
from reference_server.api.overload.levels import CALM_HOLD_S, LONGEST_HOLD_S, Levels
from reference_server.api.overload.limit import FIRST, HIGHEST, LAG_TARGET_S, LOWEST, Latencies, Limit
from reference_server.api.overload.pulse import Pulse
from reference_server.api.overload.rates import BURST_S, Rates
from reference_server.api.overload.refusals import Refusal
from reference_server.api.overload.routes import (
    BATCH,
    BLOCK,
    FEED,
    FOLLOW,
    LIKE,
    NEW,
    OTHER,
    POST,
    PROFILE,
    ROUTES,
    SEEN,
    SETTINGS,
    SIGN_UP,
    UNDO,
    Priority,
    Route,
    find_route,
)
from reference_server.api.overload.state import REDUCED_PAGE, Overload
from reference_server.api.problems import Problem
from reference_server.flags import make_flags
from reference_server.security import make_operator_token, make_token
from reference_server.settings import Settings

SECRET = b"s" * 32


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/v1/feed", FEED),
        ("POST", "/v1/feed", SEEN),
        ("GET", "/v1/feed/new", NEW),
        ("POST", "/v1/posts", POST),
        ("DELETE", "/v1/posts/0190", UNDO),
        ("PUT", "/v1/posts/0190/hide", UNDO),
        ("PUT", "/v1/posts/0190/like", LIKE),
        ("POST", "/v1/posts/batch", BATCH),
        ("POST", "/v1/users", SIGN_UP),
        ("GET", "/v1/users/me", PROFILE),
        ("GET", "/v1/users/me/import", PROFILE),
        ("PATCH", "/v1/users/me", SETTINGS),
        ("PUT", "/v1/follows/7", FOLLOW),
        ("DELETE", "/v1/blocks/7", BLOCK),
        ("GET", "/v1/nothing", OTHER),
        ("TRACE", "/v1/feed", OTHER),
    ],
)
def test_what_a_request_is(method: str, path: str, route: Route) -> None:
    assert find_route(method, path) is route


def test_routes_are_numbered_by_place() -> None:
    assert [route.number for route in ROUTES] == list(range(len(ROUTES)))


# --- buckets


def test_a_bucket_holds_five_seconds_worth_and_refills_at_its_rate() -> None:
    rates = Rates(10)
    assert [rates.take(1, 100.0, 10) for _ in range(int(10 * BURST_S))] == [0.0] * 50
    assert rates.take(1, 100.0, 10) == pytest.approx(0.1)
    assert rates.take(1, 100.0, 10) == pytest.approx(0.1)  # being refused costs nothing
    assert rates.take(1, 100.1, 10) == 0.0
    assert rates.take(1, 100.1, 10) > 0.0
    assert rates.take(2, 100.1, 10) == 0.0  # another key has a bucket of its own
    assert [rates.take(1, 1000.0, 10) for _ in range(50)] == [0.0] * 50  # a full bucket does not grow
    assert rates.take(1, 1000.0, 10) > 0.0


def test_a_new_rate_holds_at_once() -> None:
    rates = Rates(10)
    while not rates.take(1, 0.0, 1):
        pass
    assert rates.take(1, 0.5, 1) == pytest.approx(0.5)
    assert rates.take(1, 0.5, 4) == 0.0


def test_buckets_are_bounded_and_the_idle_go_first() -> None:
    rates = Rates(3)
    while not rates.take(1, 0.0, 1):
        pass
    for key in (2, 3):
        rates.take(key, 0.0, 1)
    assert rates.take(1, 1.0, 1) == 0.0
    rates.take(4, 1.0, 1)
    assert len(rates) == 3
    assert rates.take(1, 1.0, 1) > 0.0  # still remembered; 2 was forgotten


# --- callers


def headers(token: str, name: bytes = b"authorization") -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (name, f"Bearer {token}".encode("latin-1"))]


def test_only_verified_tokens_have_a_user() -> None:
    callers, now_s = Callers(SECRET, 100), time.monotonic()
    token, _ = make_token(SECRET, 7)
    assert callers.user(headers(token), now_s) == 7
    assert callers.user(headers(token), now_s) == 7
    assert callers.user([(b"authorization", b"bearer  " + token.encode())], now_s) == 7
    assert callers.user(headers(token), now_s + 25 * 3600) == STRANGER  # remembered tokens expire, too
    forged, _ = make_token(b"x" * 32, 7)
    expired, _ = make_token(SECRET, 7, now_s=0)
    nobody, _ = make_token(SECRET, 100)
    for bad in (forged, expired, nobody, token + "x", "", "\xe9", "x" * 10_000, make_operator_token(SECRET)):
        assert callers.user(headers(bad), now_s) == STRANGER, bad
    assert callers.user([(b"authorization", b"Basic " + token.encode())], now_s) == STRANGER
    assert callers.user([], now_s) == STRANGER


def test_the_operator_is_told_by_its_token() -> None:
    callers = Callers(SECRET, 100)
    assert callers.is_operator(headers(make_operator_token(SECRET)))
    for bad in (make_operator_token(b"x" * 32), make_token(SECRET, 1)[0], "", "\xe9"):
        assert not callers.is_operator(headers(bad))
    assert not callers.is_operator([])


# --- limit


def settle(limit: Limit, peak: int | None, latency_ratio: float, lag_s: float, windows: int = 200) -> float:
    for _ in range(windows):
        limit.update(int(limit.now) if peak is None else peak, latency_ratio, lag_s)
    return limit.now


@pytest.mark.parametrize(
    ("about", "peak", "latency_ratio", "lag_s", "low", "high"),
    [
        ("little load: nothing changes, however slow it is", 10, 100.0, 1.0, FIRST, FIRST),
        ("all used and quick: it grows", None, 1.0, 0.0, HIGHEST, HIGHEST),
        ("slower, but within tolerance: it grows", None, 3.9, 0.01, HIGHEST, HIGHEST),
        ("a late loop: it shrinks", None, 1.0, 4 * LAG_TARGET_S, LOWEST, LOWEST),
        ("requests take very long: it shrinks", None, 10.0, 0.0, LOWEST, LOWEST),
        ("a little too slow: it stays where queues are short", None, 4.8, 0.0, LOWEST, FIRST),
    ],
)
def test_the_limit_follows(
    about: str, peak: int | None, latency_ratio: float, lag_s: float, low: float, high: float
) -> None:
    assert low <= settle(Limit(), peak, latency_ratio, lag_s) <= high, about


def test_the_limit_grows_back_within_seconds() -> None:
    limit = Limit()
    settle(limit, None, 10.0, 1.0)
    assert settle(limit, None, 1.0, 0.0, windows=80) > 3 * LOWEST


def test_the_mix_of_routes_does_not_look_like_congestion() -> None:
    latencies = Latencies(2)
    for _ in range(50):
        for route, seconds in ((0, 0.002), (1, 0.05)):
            latencies.add(route, seconds)
        latencies.close_window(is_calm=True)
    for _ in range(20):
        latencies.add(1, 0.05)
    assert latencies.close_window(is_calm=False).latency_ratio == pytest.approx(1.0, rel=0.05)
    assert latencies.close_window(is_calm=False) == (0, 0.0)


def test_a_baseline_follows_an_overload_slowly_and_a_relief_at_once() -> None:
    latencies = Latencies(1)

    def windows(count: int, seconds: float, is_calm: bool) -> float:
        for _ in range(count):
            latencies.add(0, seconds)
            ratio = latencies.close_window(is_calm).latency_ratio
        return ratio

    assert windows(20, 0.004, True) == pytest.approx(1.0)
    assert windows(100, 0.1, False) > 7  # 10 s of overload
    assert windows(20, 0.004, False) == pytest.approx(1.0, abs=0.1)
    assert windows(100, 0.02, True) == pytest.approx(1.0, abs=0.1)  # slower for good, without load


def test_one_that_waits_on_purpose_counts_little() -> None:
    latencies = Latencies(1)
    for _ in range(20):
        latencies.add(0, 0.004)
        latencies.close_window(is_calm=True)
    for _ in range(9):
        latencies.add(0, 0.004)
    latencies.add(0, 30.0)
    assert latencies.close_window(is_calm=False).latency_ratio < 2.0


# --- levels


def pressed(levels: Levels, sample: float, from_s: float, seconds: float, busy: float = 1.0) -> list[int]:
    """The level after each 100 ms."""
    seen = []
    for step in range(1, round(seconds * 10) + 1):
        levels.update(sample, busy, from_s + step / 10)
        seen.append(levels.level)
    return seen


@pytest.mark.parametrize(("sample", "level"), [(0.0, 0), (0.01, 0), (0.05, 1), (0.3, 2), (0.6, 3), (1.0, 3)])
def test_the_level_follows_the_share_refused(sample: float, level: int) -> None:
    seen = pressed(Levels(0.0), sample, 0.0, 10)
    assert seen[-1] == level
    assert seen == sorted(seen)


def test_a_single_bad_moment_is_no_pressure() -> None:
    levels = Levels(0.0)
    assert pressed(levels, 0.1, 0.0, 0.1) == [0]
    assert max(pressed(levels, 0.0, 0.1, 5)) == 0


def test_all_is_back_a_few_seconds_after_the_load() -> None:
    levels = Levels(0.0)
    pressed(levels, 1.0, 0.0, 60)
    seen = pressed(levels, 0.0, 60.0, 10, busy=0.1)
    assert seen[-1] == 0
    assert seen.index(0) < 70
    assert seen[: round(CALM_HOLD_S * 10) - 1].count(3) >= 9  # not at once


def test_a_level_that_is_needed_again_and_again_is_kept_longer() -> None:
    """Leaving out brings relief, and relief brings the load back: the swings get slower, never faster."""
    levels, changes, level = Levels(0.0), [], 0
    for step in range(1, 1200):
        levels.update(0.0 if levels.level else 0.1, 0.95, step / 10)
        if levels.level != level:
            level = levels.level
            changes.append(step / 10)
    rises = changes[::2]
    gaps = [round(later - earlier, 1) for earlier, later in itertools.pairwise(rises)]
    assert gaps[0] < 6
    assert gaps[-1] > LONGEST_HOLD_S
    assert gaps == sorted(gaps)


# --- bodies


async def never() -> Message:
    return await asyncio.get_running_loop().create_future()


async def whole() -> Message:
    return {"type": "http.request", "body": b"{}"}


def begin(bodies: Bodies, sender: int, times: int = 1) -> list[asyncio.Task[bytes | Refusal | None]]:
    return [asyncio.create_task(bodies.take(sender, never)) for _ in range(times)]


async def test_whoever_has_most_bodies_awaited_makes_room() -> None:
    bodies = Bodies()
    one = begin(bodies, 7)
    many = [*begin(bodies, STRANGER, MAX_AWAITED - 101), *begin(bodies, 8, 100)]
    await asyncio.sleep(0)
    assert len(bodies) == MAX_AWAITED
    later = begin(bodies, 9, 3)
    await asyncio.sleep(0)
    assert await bodies.take(10, whole) == b"{}"
    assert await asyncio.gather(*many[:4]) == [None] * 4  # three for those that wait, one for the one that came whole
    assert len(bodies) == MAX_AWAITED - 1
    assert not any(task.done() for task in (*one, *many[4:], *later))
    for task in (*one, *many, *later):
        task.cancel()
    await asyncio.wait([*one, *many, *later])
    assert len(bodies) == 0


async def test_a_body_that_takes_too_long_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_TIMEOUT_S", 0.01)
    bodies = Bodies()
    assert await bodies.take(1, never) is body.TOO_SLOW
    assert len(bodies) == 0


# --- all together


class FixedFlags:
    """Flags that a test sets."""

    def __init__(self, **flags: object) -> None:
        self.now = make_flags(flags)


def pressed_process(**flags: object) -> Overload:
    """A process that refused everybody for a while."""
    overload = Overload(FixedFlags(**flags), SECRET, 100)
    now_s = time.monotonic()
    for window in range(1, 40):
        overload.turn_away("full", Priority.ESSENTIAL)
        overload._end_window(now_s + window / 10, 0.0)
    return overload


def test_long_pages_and_sessions_are_left_out_at_level_2() -> None:
    calm, pressed_hard = Overload(FixedFlags(), SECRET, 100), pressed_process()
    assert (calm.level, calm.page_limit(50), calm.skips_sessions) == (0, 50, False)
    assert (pressed_hard.level, pressed_hard.page_limit(50), pressed_hard.skips_sessions) == (3, REDUCED_PAGE, True)
    assert pressed_hard.page_limit(5) == 5


class Asked(Exception):
    """A page is being made."""


class Posts:
    """The first that a page asks."""

    def ask(self, user: int) -> None:
        raise Asked


async def test_pages_behind_the_first_are_left_out_at_level_3_wherever_their_cursor_is() -> None:
    cursor = make_cursor(SECRET, 7, (1_000_000, b"p" * 16))
    for overload, asked, outcome in (
        (pressed_process(), cursor, Problem),
        (pressed_process(), None, Asked),
        (Overload(FixedFlags(), SECRET, 100), cursor, Asked),
    ):
        cursors = CursorDefects(Settings(directory="/", sockets="/", secret=SECRET.hex(), regions=()), SECRET, "")
        parts = SimpleNamespace(cursors=cursors, overload=overload, own_posts=Posts())
        with pytest.raises(outcome) as raised:
            await page_json(parts, 7, 50, asked)  # type: ignore[arg-type]
        refused = isinstance(raised.value, Problem)
        assert overload.refused["level", Priority.ESSENTIAL] == refused
        assert not refused or (raised.value.slug, raised.value.retry_s in (1, 2, 3)) == ("unavailable", True)


def test_without_degradation_there_are_no_levels() -> None:
    assert pressed_process(degrade=False).level == 0


def test_a_late_loop_is_pressure_where_nothing_is_limited() -> None:
    overload = Overload(FixedFlags(auto_throttle=False), SECRET, 100)
    now_s = time.monotonic()
    for _ in range(LOWEST * 4):
        overload.limiter.enter(FEED.lane)
    for window in range(1, 40):
        overload._end_window(now_s + window / 10, 0.5)
    assert overload.level == 3
    assert overload.limit.now == FIRST  # the limit rests


def test_strangers_share_a_bucket_but_sign_ups_have_their_own() -> None:
    overload = Overload(FixedFlags(), SECRET, 100)
    while not overload.stranger_wait_s(False, 0.0):
        pass
    assert overload.stranger_wait_s(True, 0.0) == 0.0
    while not overload.identity_wait_s(5):
        pass
    assert overload.identity_wait_s(6) == 0.0
    assert Overload(FixedFlags(auto_throttle=False), SECRET, 100).identity_wait_s(5) == 0.0


# --- refusals, pulse


def test_retry_after_is_spread() -> None:
    drawn = [dict(refusals.busy().start["headers"])[b"retry-after"] for _ in range(300)]
    assert set(drawn) == {b"1", b"2", b"3"}
    assert min(drawn.count(value) for value in set(drawn)) > 50
    waits = {refusals.bucket_retry_s(4.0) for _ in range(200)}
    assert min(waits) >= 4
    assert max(waits) <= 6


async def test_the_pulse_tells_how_late_the_loop_was_and_stops_when_there_is_nothing_to_do() -> None:
    lags: list[float] = []
    beats: list[float] = []

    def on_window(now_s: float, lag_s: float) -> bool:
        lags.append(lag_s)
        return len(lags) < 3

    pulse = Pulse(beats.append, on_window)
    pulse.wake()
    time.sleep(0.2)  # noqa: ASYNC251  (the loop is held up on purpose)
    async with asyncio.timeout(5):
        while pulse.beats_now:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert len(beats) == 15
    assert len(lags) == 3
    assert lags[0] > 0.03
    assert lags[2] < 0.03
