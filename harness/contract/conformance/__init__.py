"""Does an implementation honour the contract? One call answers, for any target: `await conform(profile)`.

One small function a check, registered under a name (`registry`), grouped by what it looks at. A check makes its own
users, states its property in one sentence, and returns (pass), raises `Violation` (fail), or is stopped by something
else (inconclusive). What the target lacks by its profile is skipped by name.
"""

from harness.contract.conformance import feeds, graph, posts, protocol, regions, streams, users
from harness.contract.conformance.registry import REGISTRY, Rule
from harness.contract.conformance.runner import conform

__all__ = ["REGISTRY", "Rule", "conform", "feeds", "graph", "posts", "protocol", "regions", "streams", "users"]
