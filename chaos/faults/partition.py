"""partition: a link becomes a black hole. Bytes vanish, connections stay open, new ones open and stay silent."""

from __future__ import annotations

from collections.abc import Mapping

from chaos.cuts import BlackHole
from chaos.kind import Parameter
from chaos.links import DIRECTION


class Partition(BlackHole):
    """See the module."""

    about = "The link drops every byte; connections stay open until it heals."
    colour = "#d2601a"
    parameters: Mapping[str, Parameter] = {"direction": DIRECTION}
