"""A tampered cursor is another one, and differs where every letter counts."""

import pytest

from harness.load.bad_cursor import tampered


@pytest.mark.parametrize("drawn", range(40))
def test_a_tampered_cursor_differs_in_its_middle_or_is_cut(drawn: int) -> None:
    cursor = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo.MTIzNDU2Nzg5MDEyMzQ1Ng"
    bad = tampered(cursor, drawn)
    assert bad != cursor
    if drawn % 2:
        assert bad == cursor[:-3]
    else:
        [place] = [i for i, (a, b) in enumerate(zip(cursor, bad, strict=True)) if a != b]
        assert cursor[place + 1] != ".", "the last letter before a dot may have spare bits"
        assert len(cursor) // 4 <= place < len(cursor) - len(cursor) // 4


@pytest.mark.parametrize("cursor", ["x", "", "....", "a.b"])
def test_any_cursor_can_be_tampered_with(cursor: str) -> None:
    assert all(tampered(cursor, drawn) != cursor for drawn in range(4))
