"""Markdown that shows text as text, for summaries of CI jobs."""

from __future__ import annotations

import re

from harness.core.verdict import Outcome

MARK = {Outcome.PASS: "✅", Outcome.FAIL: "❌", Outcome.INCONCLUSIVE: "⚠️"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line; an @ mentions nobody."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("@", "@\u200b")
