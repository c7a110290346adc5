"""Cursors as an attacker would make them. Pure."""

from __future__ import annotations

_MIDDLE = 0.25
"""a letter is changed within the middle: neither in a name before it nor in the last, partly used letter behind"""
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def tampered(cursor: str, drawn: int) -> str:
    """The cursor with one letter of its middle changed, or every other time cut; `drawn` chooses."""
    if drawn % 2:
        return cursor[:-3] or cursor + "x"
    margin = int(_MIDDLE * len(cursor))
    places = [i for i in range(margin, len(cursor) - margin) if cursor[i].isalnum() and cursor[i + 1 : i + 2].isalnum()]
    if not places:
        return cursor + "x"
    place = places[drawn // 2 % len(places)]
    letters = _LETTERS.replace(cursor[place], "")
    return cursor[:place] + letters[drawn // 7 % len(letters)] + cursor[place + 1 :]
