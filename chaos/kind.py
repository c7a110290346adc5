"""What a fault kind is: one file with plan, inject, witness and undo, its parameters, and how it is drawn.

The four methods are plain blocking code with a limit on every wait; `chaos.schedule` calls them in a thread of the
fault's own. The order is always

    plan     read what is there, touch nothing; what it returns is fsynced to the ledger, and is all that undo gets
    inject   do it
    witness  prove from outside that it took effect
    undo     put back what plan saw, and read back that it is so
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from chaos.handles import Handle
from harness.core.errors import nearest

PlanT = TypeVar("PlanT", bound=msgspec.Struct)


class FaultError(Exception):
    """A fault could not be injected, or not be undone. The text is a sentence for people."""


class Witness(msgspec.Struct, frozen=True):
    """What was observed of a fault, in a sentence; `ok` when it proves the effect."""

    ok: bool
    evidence: str


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kind. `parse` raises ValueError with what was expected and what was got."""

    parse: Callable[[Any], Any]
    about: str
    required: bool = False
    default: Any = None


class FaultKind(Protocol[PlanT]):
    """One sort of fault. Undo is idempotent: already undone, or a target that is gone, is fine."""

    name: str
    about: str
    """one sentence"""
    backends: tuple[str, ...]
    """handle backends it works on"""
    needs: tuple[str, ...]
    """fields a handle must have"""
    colour: str
    """of its window on plots, #rrggbb"""
    parameters: Mapping[str, Parameter]
    plan_type: type[PlanT]

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> PlanT:
        """All that inject, witness and undo need. `params` are parsed and complete. Raises FaultError, OSError."""
        ...

    def inject(self, plan: PlanT) -> None:
        """Raises FaultError, OSError; whatever took effect by then is undone by `undo`."""
        ...

    def witness(self, plan: PlanT, within_s: float) -> Witness:
        """Look for proof, for `within_s` at most."""
        ...

    def undo(self, plan: PlanT) -> str:
        """What was put back, in a sentence. Raises FaultError, OSError when the fault may still be active."""
        ...


def parse_parameters(kind: FaultKind[Any], raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Parsed parameters with defaults filled in, and the problems, each beginning with the parameter's name."""
    problems = [
        f"{key}: unknown parameter of {kind.name}{nearest(key, kind.parameters)}"
        for key in raw
        if key not in kind.parameters
    ]
    parsed: dict[str, Any] = {}
    for key, parameter in kind.parameters.items():
        if key not in raw:
            parsed[key] = parameter.default
            if parameter.required:
                problems.append(f"{key}: is required by {kind.name} ({parameter.about})")
            continue
        try:
            parsed[key] = parameter.parse(raw[key])
        except (ValueError, TypeError) as error:
            problems.append(f"{key}: {error}")
    return parsed, problems
