"""The table [catalogue] of a scenario: what it stands for in the real world, what makes it fail, what it takes.

    [catalogue]
    number = 15
    story = "A region loses its timeline cache, and ..."
    real = "one node with 3 TB of timelines"
    ratios = "50 followers a post, 4 reads a post"
    fails_with = [{ defect = "no-wal", check = "durability", seen = true }]
    takes = "95s"

Pure data and its parsers. Which defects and checks there are is known elsewhere (`harness.run.request`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from harness.core.errors import nearest
from harness.core.values import Parser, flag, list_of, positive_duration, text, whole

DRAFT = "draft"
"""tag of a scenario that was not yet seen to pass on a sound target"""
SCHEDULED = ("ci", "nightly")
"""tags of scenarios that are run unattended: their result is believed"""


class Failing(msgspec.Struct, kw_only=True, frozen=True):
    """What makes the scenario fail: a planted defect, or a flag of the target; and the check that must turn red."""

    check: str
    """an invariant, "recovery", or the metric of a threshold"""
    defect: str = ""
    flag: str = ""
    """NAME=VALUE"""
    seen: bool = False
    """whether somebody has seen it do so at the scenario's own size"""

    @property
    def option(self) -> str:
        """As it is typed after `feedstorm run SCENARIO`."""
        return f"--defect {self.defect}" if self.defect else f"--flag {self.flag}"


class Catalogue(msgspec.Struct, kw_only=True, frozen=True):
    """What people are told of a scenario."""

    story: str
    """a paragraph: what happens, why it matters, what must hold"""
    real: str
    """the size it has in the real world"""
    ratios: str
    """what of that is kept in the default size"""
    fails_with: tuple[Failing, ...]
    number: int | None = None
    """place in the catalogue"""
    takes_s: float | None = None
    """a whole run, from the command to the verdict, as measured on two cores; None: not measured yet"""


def _paragraph(value: Any) -> str:
    """A text as one line, however it was broken in the file."""
    return " ".join(text(value).split())


def _failing(value: Any) -> Failing:
    if not isinstance(value, Mapping):
        raise ValueError(f'must be a table such as {{ defect = "no-wal", check = "durability" }}, got {value!r}')
    keys = Failing.__struct_fields__
    if unknown := [f"unknown key {key!r}{nearest(key, keys)}" for key in value if key not in keys]:
        raise ValueError("; ".join(unknown))
    words = {key: text(member) for key, member in value.items() if key != "seen"}
    if "check" not in words:
        raise ValueError("must name the check that turns red")
    if ("defect" in words) == ("flag" in words):
        raise ValueError("must name a defect or a flag, one of them")
    if "flag" in words and not all(words["flag"].partition("=")):
        raise ValueError(f"flag must look like NAME=VALUE, got {words['flag']!r}")
    return Failing(**words, seen=flag(value.get("seen", False)))


def _some_failing(value: Any) -> tuple[Failing, ...]:
    found: tuple[Failing, ...] = list_of(_failing)(value)
    if not found:
        raise ValueError("must name at least one: a scenario that cannot fail shows nothing")
    return found


# key in the file -> (field of the struct, parser)
CATALOGUE: dict[str, tuple[str, Parser]] = {
    "number": ("number", whole(1)),
    "story": ("story", _paragraph),
    "real": ("real", _paragraph),
    "ratios": ("ratios", _paragraph),
    "fails_with": ("fails_with", _some_failing),
    "takes": ("takes_s", positive_duration),
}
REQUIRED = ("story", "real", "ratios", "fails_with")
