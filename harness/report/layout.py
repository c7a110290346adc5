"""What all HTML pages share: where their templates lie, their style, the filters. Each page is one file, no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.report.scales import milliseconds
from harness.report.svg import safe_colour
from harness.report.wording import bound_text, machine_text, number, sentences, split_name, value_text, with_unit, word

TEMPLATES = Path(__file__).parent / "templates"
WORST_FIRST = ("fail", "inconclusive", "pass", "skipped")


def environment(templates: Path = TEMPLATES) -> Environment:
    """Templates of a folder, with all text escaped and what pages write numbers and checks with."""
    made = Environment(
        loader=FileSystemLoader([templates, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number,
        ms=milliseconds,
        sentences=sentences,
        colour=safe_colour,
        value=value_text,
        bound=bound_text,
        machine=machine_text,
        share=lambda share: with_unit(share, "share"),
        split_name=split_name,
        word=word,
    )
    return made


def style() -> Markup:
    """The style of all pages."""
    return Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))


def tallied(count: Mapping[str, int]) -> list[tuple[str, int]]:
    """Word and count of all outcomes there are, worst first."""
    return [(word, count[word]) for word in WORST_FIRST if count.get(word)]
