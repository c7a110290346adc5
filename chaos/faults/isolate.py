"""isolate: a region is cut off: from all others, or from one of them only, which parts a pair of regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chaos.cuts import NetworkCut, regions_of
from chaos.handles import RegionLink
from chaos.kind import FaultError, Parameter
from harness.core.errors import nearest
from harness.core.values import text


class Isolate(NetworkCut):
    """See the module."""

    name = "isolate"
    about = "Every link from and to `region` drops every byte, or only those between it and the region `from`."
    colour = "#9c3d10"
    parameters: Mapping[str, Parameter] = {
        "region": Parameter(text, "the region to cut off", required=True),
        "from": Parameter(text, "the one region it no longer sees; left out: all of them", default=""),
    }

    def cut(self, links: Sequence[RegionLink], params: Mapping[str, Any]) -> list[RegionLink]:
        """Links that begin or end at the region, and at the other one if one is named."""
        parted = [params["region"], *filter(None, [params["from"]])]
        regions = regions_of(links)
        for name in parted:
            if name not in regions:
                raise FaultError(f"no link of this network touches a region {name!r}{nearest(name, regions)}")
        if len(set(parted)) < len(parted):
            raise FaultError(f"{params['region']} cannot be isolated from itself")
        return [link for link in links if set(parted) <= set(link.regions)]
