from __future__ import annotations

import pytest

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
    ["", ".", "x", "é", "a.b.c", "\x00", "A" * 512, sign(SECRET, "cursor", b"short"), make_token(SECRET, 7)[0]],
)
def test_garbage_is_a_bad_cursor(text: str) -> None:
    with pytest.raises(Problem) as caught:
        read_cursor(SECRET, 7, text)
    assert caught.value.slug == "bad-cursor"


def test_another_secret_does_not_pass() -> None:
    with pytest.raises(Problem):
        read_cursor(b"t" * 32, 7, make_cursor(SECRET, 7, KEY))
