"""ring: the regions stand in a circle, and each sees only its two neighbours; no region sees all others any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chaos.cuts import NetworkCut, regions_of
from chaos.handles import RegionLink
from chaos.kind import FaultError, Parameter

FEWEST = 4
"""of three, each is a neighbour of both others"""


def _order(value: Any) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else ()
    if len(names) < FEWEST or len(set(names)) < len(names) or not all(names):
        raise ValueError(f"must be {FEWEST} or more different regions with commas between them, got {value!r}")
    return names


class Ring(NetworkCut):
    """See the module."""

    name = "ring"
    about = "Each region sees only its two neighbours in `order`; the links between all others drop every byte."
    colour = "#7f4a8c"
    parameters: Mapping[str, Parameter] = {
        "order": Parameter(_order, 'the circle, such as "a,b,c,d"; left out: the order of the links', default=()),
    }

    def cut(self, links: Sequence[RegionLink], params: Mapping[str, Any]) -> list[RegionLink]:
        """Links between regions that do not follow each other."""
        regions = regions_of(links)
        order = params["order"] or tuple(regions)
        if sorted(order) != sorted(regions):
            raise FaultError(f"order must name each region of this network once: {', '.join(regions)}")
        if len(order) < FEWEST:
            raise FaultError(f"a ring needs {FEWEST} regions or more; this network has {', '.join(regions)}")
        neighbours = {frozenset(pair) for pair in zip(order, (*order[1:], order[0]), strict=True)}
        return [link for link in links if frozenset(link.regions) not in neighbours]
