from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_server.api.cursors import CURSOR_TTL_S, make_cursor, read_cursor
from reference_server.api.problems import Problem
from reference_server.security import make_token, sign

SECRET = b"s" * 32
KEY = (1_700_000_000_000_001, bytes(range(16)))


def test_a_cursor_comes_back_as_it_was() -> None:
    assert read_cursor(SECRET, 7, make_cursor(SECRET, 7, KEY)) == KEY


def test_only_its_user_may_use_it_and_only_for_a_while() -> None:
    cursor = make_cursor(SECRET, 7, KEY, now_s=1000)
    assert read_cursor(SECRET, 7, cursor, now_s=1000 + CURSOR_TTL_S) == KEY
    for user, now_s, reason in ((8, 1000, "another user"), (7, 1001 + CURSOR_TTL_S, "expired")):
        with pytest.raises(Problem, match=reason) as caught:
            read_cursor(SECRET, user, cursor, now_s=now_s)
        assert caught.value.slug == "bad-cursor"


def test_no_single_changed_character_passes() -> None:
    cursor = make_cursor(SECRET, 7, KEY)
    for place in range(len(cursor)):
        changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        with pytest.raises(Problem):
            read_cursor(SECRET, 7, changed)


@pytest.mark.parametrize(
    "text",
    ["", ".", "x", "é", "a.b.c", "\x00", "A" * 512, sign(SECRET, "cursor", b"short"), make_token(SECRET, 7, 1000)[0]],
)
def test_garbage_is_a_bad_cursor(text: str) -> None:
    with pytest.raises(Problem) as caught:
        read_cursor(SECRET, 7, text)
    assert caught.value.slug == "bad-cursor"


def test_another_secret_does_not_pass() -> None:
    with pytest.raises(Problem):
        read_cursor(b"t" * 32, 7, make_cursor(SECRET, 7, KEY))


CURSOR = make_cursor(SECRET, 7, KEY, now_s=1000)


def assert_refused(text: str, user: int = 7, now_s: float = 1000) -> None:
    with pytest.raises(Problem) as caught:
        read_cursor(SECRET, user, text, now_s=now_s)
    assert caught.value.slug == "bad-cursor"


@given(st.integers(0, len(CURSOR) - 1), st.characters())
def test_any_other_character_anywhere_is_refused(place: int, character: str) -> None:
    if CURSOR[place] != character:
        assert_refused(CURSOR[:place] + character + CURSOR[place + 1 :])


@given(st.integers(0, len(CURSOR)), st.text(max_size=5))
def test_what_is_cut_or_longer_is_refused(size: int, more: str) -> None:
    if CURSOR[:size] + more != CURSOR:
        assert_refused(CURSOR[:size] + more)


@given(st.text(max_size=200))
def test_no_text_passes_for_a_cursor(text: str) -> None:
    if text != CURSOR:
        assert_refused(text)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**40), st.integers(0, 2**63), st.binary(min_size=16, max_size=16))
def test_a_cursor_is_of_its_user_and_its_hour_alone(user: int, now_s: int, ts_us: int, post_id: bytes) -> None:
    cursor = make_cursor(SECRET, user, (ts_us, post_id), now_s=now_s)
    assert read_cursor(SECRET, user, cursor, now_s=now_s + CURSOR_TTL_S) == (ts_us, post_id)
    assert_refused(cursor, user ^ 1, now_s)
    assert_refused(cursor, user, now_s + CURSOR_TTL_S + 1)
