"""The list of checks. A new check is one decorated function in one of the modules beside this one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from harness.contract.conformance.trial import Trial
from harness.contract.profile import Profile

CheckFunction = Callable[[Trial], Awaitable[None]]


@dataclass(frozen=True)
class Rule:
    """One property of the contract."""

    name: str
    property: str
    """the property in one sentence"""
    needs: tuple[str, ...]
    """capabilities without which it is skipped; "operator": the operator's token"""
    run: CheckFunction

    def lacking(self, profile: Profile) -> str:
        """The first thing the check needs and the target lacks; empty when it can run."""
        for need in self.needs:
            if need == "operator":
                if not profile.operator_token_file:
                    return "operator token"
            elif getattr(profile.capabilities, need) in (False, "none"):
                return {"imports": "import"}.get(need, need)
        if "regions" in self.needs and len(profile.regions) < 2:
            return "second region"
        return ""


REGISTRY: dict[str, Rule] = {}


def check(name: str, *needs: str) -> Callable[[CheckFunction], CheckFunction]:
    """Register a check that needs these capabilities (fields of `Capabilities`). Its docstring is its property."""

    def register(function: CheckFunction) -> CheckFunction:
        if name in REGISTRY:
            raise ValueError(f"two conformance checks are called {name}")
        sentence = " ".join((function.__doc__ or "").split())
        REGISTRY[name] = Rule(name, sentence, needs, function)
        return function

    return register
