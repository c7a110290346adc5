"""Which values a flag of a target takes, as its profile says: `two_tier = ["on", "off"]`, `cache_mb = "8..65536"`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from harness.core.errors import nearest
from harness.core.values import list_of, text

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)?")
_SWITCH = {"on", "off"}
_SWITCHED = {"on", "off", "true", "false"}


class FlagKind(msgspec.Struct, kw_only=True, frozen=True):
    """One of some words, or a number within limits."""

    words: list[str] = []
    """empty: it is a number; on and off may be written true and false"""
    whole: bool = True
    least: float = 0
    most: float | None = None
    """None: there is no limit"""

    @property
    def text(self) -> str:
        """What may stand there: "on or off", "one of push, pull", "a whole number from 1 to 86,400"."""
        if self.words:
            return " or ".join(self.words) if len(self.words) < 3 else f"one of {', '.join(self.words)}"
        most = f" to {self.most:,.10g}" if self.most is not None else ""
        return f"a {'whole ' if self.whole else ''}number from {self.least:,.10g}{most}"

    def takes(self, word: str) -> bool:
        """Whether this may stand behind NAME=."""
        if self.words:
            return word in self.words or (set(self.words) == _SWITCH and word.lower() in _SWITCHED)
        if _NUMBER.fullmatch(word) is None or (self.whole and "." in word):
            return False
        return self.least <= float(word) and (self.most is None or float(word) <= self.most)


def flag_kind(value: Any) -> FlagKind:
    """The kind in a profile: a list of words, or a range. Raises ValueError."""
    if isinstance(value, list) and value:
        return FlagKind(words=list(list_of(text)(value)))
    match = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'must be words such as ["on", "off"], or a range such as "1..64" or "0.5..", got {value!r}')
    least, most = match.groups()
    return FlagKind(whole="." not in least, least=float(least), most=float(most) if most else None)


def flag_problem(setting: str, kinds: Mapping[str, FlagKind]) -> str:
    """What is wrong with NAME=VALUE; empty: nothing, as far as is known. Of a target that lists no flags all may be."""
    name, equals, word = setting.partition("=")
    if not name or not equals:
        return "must look like NAME=VALUE"
    if not kinds:
        return ""
    if name not in kinds:
        return f"unknown flag {name!r}{nearest(name, kinds)}"
    kind = kinds[name]
    if kind.takes(word):
        return ""
    hint = nearest(word, kind.words)
    return f"must be {kind.text}, got {word!r}{hint if 'did you mean' in hint else ''}"
