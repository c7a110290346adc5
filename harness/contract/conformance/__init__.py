"""Does an implementation honour the contract? One call answers, for any target: `await conform(profile)`.

One small function a check, registered under a name (`registry`), grouped by what it looks at. A check makes its own
users, states its property in one sentence, and returns (pass), raises `Violation` (fail), or is stopped by something
else (inconclusive). What the target lacks by its profile is skipped by name.
"""

from importlib import import_module

from harness.contract.conformance.registry import REGISTRY, Rule
from harness.contract.conformance.runner import conform

AREAS = ("users", "graph", "posts", "visibility", "feeds", "streams", "regions", "operator", "protocol")
"""modules with checks, in the order of the report"""
for area in AREAS:
    import_module(f"{__name__}.{area}")

__all__ = ["AREAS", "REGISTRY", "Rule", "conform"]
