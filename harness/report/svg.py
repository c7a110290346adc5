"""Charts as SVG text. Colours are CSS classes of the page, so that light and dark need no second drawing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

_COLOUR = re.compile(r"^#[0-9a-fA-F]{6}$")
Point = tuple[float, float]


def tag(name: str, text: str | None = None, /, **attributes: object) -> str:
    """One element, escaped; attributes written `stroke_width` become `stroke-width`, `class_` becomes `class`."""
    words = _words(attributes)
    return f"<{name}{words}/>" if text is None else f"<{name}{words}>{escape(text)}</{name}>"


def path(points: Sequence[Point | None], **attributes: object) -> str:
    """A line through points; None interrupts it. A point alone becomes a dot (round line caps)."""
    commands: list[str] = []
    pen_up = True
    for i, point in enumerate(points):
        if point is None:
            pen_up = True
            continue
        commands.append(f"{'M' if pen_up else 'L'}{point[0]:g} {point[1]:g}")
        if pen_up and (i + 1 == len(points) or points[i + 1] is None):
            commands.append("h0.01")
        pen_up = False
    return tag("path", d="".join(commands), **attributes) if commands else ""


def band(upper: Sequence[Point], lower: Sequence[Point], **attributes: object) -> str:
    """The area between two lines."""
    if len(upper) < 2:
        return ""
    corners = " ".join(f"{x:g},{y:g}" for x, y in [*upper, *reversed(lower)])
    return tag("polygon", points=corners, **attributes)


def safe_colour(colour: str) -> str:
    """The colour if it is #rrggbb, else a neutral one."""
    return colour if _COLOUR.match(colour) else "#7a7f87"


def figure(width: int, height: int, label: str, parts: Iterable[str], **attributes: object) -> Markup:
    """A whole drawing with a text alternative."""
    words = _words({"viewBox": f"0 0 {width} {height}", "role": "img", "aria_label": label, **attributes})
    return Markup(f"<svg{words}>{''.join(parts)}</svg>")


def _words(attributes: Mapping[str, object]) -> str:
    return "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
