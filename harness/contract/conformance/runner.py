"""Runs the checks against one target, a few at a time, and makes each an entry of a verdict."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator

from harness.contract.client import FeedClient
from harness.contract.conformance.registry import REGISTRY, Rule
from harness.contract.conformance.trial import Trial, Unanswered, Violation, identity_order
from harness.contract.profile import Profile
from harness.core.errors import UsageError, nearest
from harness.core.seeds import rng
from harness.core.verdict import Check, CheckKind, Outcome

CONCURRENCY = 4
CHECK_TIMEOUT_S = 60.0
USERS = 400


async def conform(profile: Profile, *, users: int = USERS, seed: int = 42, names: Collection[str] = ()) -> list[Check]:
    """Every check (or those named), in the order of the registry, against a running target.

    `users` is the size the target was started with: the profile's identities "0..N" end there. Same seed, same
    identities and same home regions. Raises UsageError for a name that is no check.
    """
    problems = [f"check {name!r}: there is none{nearest(name, REGISTRY)}" for name in names if name not in REGISTRY]
    if problems:
        raise UsageError(problems)
    rules = [rule for rule in REGISTRY.values() if not names or rule.name in names]
    identities = iter(identity_order(profile, users, seed))
    gate = asyncio.Semaphore(CONCURRENCY)
    clients = {region: FeedClient.of(profile, region) for region in profile.regions}
    try:
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(_judge(rule, profile, clients, identities, seed, gate)) for rule in rules]
    finally:
        for client in clients.values():
            await client.aclose()
    return [task.result() for task in started]


async def _judge(
    rule: Rule,
    profile: Profile,
    clients: dict[str, FeedClient],
    identities: Iterator[int],
    seed: int,
    gate: asyncio.Semaphore,
) -> Check:
    lacking = rule.lacking(profile)
    if lacking:
        return _check(rule, Outcome.PASS, f"target has no {lacking}", skipped=True)
    home = _home(rule, list(clients), seed)
    trial = Trial(rule.name, profile, clients[home], home, identities, seed)
    async with gate:
        return await _attempt(rule, trial)


async def _attempt(rule: Rule, trial: Trial) -> Check:
    """Run one check; whatever stops it is told, nothing but its return is a pass."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await rule.run(trial)
    except Violation as violation:
        return _check(rule, Outcome.FAIL, str(violation), trial)
    except Unanswered as reason:
        return _check(rule, Outcome.INCONCLUSIVE, str(reason), trial)
    except TimeoutError:
        return _check(rule, Outcome.INCONCLUSIVE, f"not decided within {CHECK_TIMEOUT_S:g} s", trial)
    except Exception as error:
        return _check(rule, Outcome.INCONCLUSIVE, f"the check crashed: {type(error).__name__}: {error}", trial)
    if trial.observed == 0:
        return _check(rule, Outcome.INCONCLUSIVE, "nothing was observed", trial)
    return _check(rule, Outcome.PASS, "", trial)


def _check(rule: Rule, verdict: Outcome, reason: str, trial: Trial | None = None, skipped: bool = False) -> Check:
    told = "" if trial is None or verdict is Outcome.PASS else f"in region {trial.home}: {reason}"
    return Check(
        name=rule.name,
        kind=CheckKind.INVARIANT,
        verdict=verdict,
        observations=trial.observed if trial else 0,
        reason=reason,
        evidence=[rule.property, told] if told else [rule.property],
        skipped=skipped,
    )


def _home(rule: Rule, regions: list[str], seed: int) -> str:
    """The region a check runs in: drawn, so that all regions are looked at."""
    return regions[int(rng(seed, "conformance", "home", rule.name).integers(len(regions)))]
