"""Brings the system under test up, or connects to a running one, and hands out its resolved profile.

Knows a system only by its profile: a start command that writes an endpoints file, or fixed base URLs.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec

from harness.contract.profile import Profile, Start, with_endpoints
from harness.core.errors import UnavailableError, UsageError
from harness.record.run_directory import RunDirectory
from harness.run.child import child_process, log_tail

POLL_S = 0.05
PROBE_TIMEOUT_S = 5.0
KEPT_LOGS = "stack"
"""folder of the run's logs that gets those of the target's parts when its data goes"""


@asynccontextmanager
async def target_up(
    profile: Profile, run: RunDirectory, users: int, defects: Sequence[str] = (), flags: Sequence[str] = ()
) -> AsyncIterator[Profile]:
    """The profile with live addresses; a target we started is ended, and its data removed, when the block ends.

    Raises UnavailableError when the target cannot be started or does not answer, UsageError when it
    does not know defects or flags.
    """
    _check_options(profile, defects, flags)
    if profile.start is None:
        await _probe(profile)
        yield profile
        return
    stack = run.path / "stack"
    stack.mkdir(parents=True, exist_ok=True)
    command = _command(profile.start, stack, run.population, users, defects, flags)
    log = run.logs / "target.log"
    try:
        async with child_process(command, log, grace_s=20.0) as process:
            resolved = await _await_endpoints(profile, profile.start, stack, process, log)
            await _probe(resolved)
            yield resolved
    finally:
        _keep_logs(stack, run.logs)


def _check_options(profile: Profile, defects: Sequence[str], flags: Sequence[str]) -> None:
    accepted = profile.start.options if profile.start is not None else []
    problems = []
    if defects and "defect" not in accepted:
        problems.append(f"--defect: target {profile.name} has no planted defects")
    if flags and "flag" not in accepted:
        problems.append(f"--flag: target {profile.name} takes no flags at start")
    if problems:
        raise UsageError(problems)


def _command(
    start: Start, stack: Path, population: Path, users: int, defects: Sequence[str], flags: Sequence[str]
) -> list[str]:
    values = {"python": sys.executable, "dir": str(stack), "population": str(population), "users": str(users)}
    command = [word.format(**values) for word in start.command]
    for defect in defects:
        command += ["--defect", defect]
    for flag in flags:
        command += ["--flag", flag]
    return command


async def _await_endpoints(
    profile: Profile, start: Start, stack: Path, process: asyncio.subprocess.Process, log: Path
) -> Profile:
    path = Path(start.endpoints.format(dir=str(stack)))
    deadline = asyncio.get_running_loop().time() + start.ready_timeout_s
    while not path.exists():
        if process.returncode is not None:
            said = (log_tail(log) or "no message").replace(f"{stack / 'logs'}", f"{log.parent / KEPT_LOGS}")
            raise UnavailableError(f"target {profile.name} did not start: {said}")
        if asyncio.get_running_loop().time() > deadline:
            raise UnavailableError(
                f"target {profile.name} was not ready within {start.ready_timeout_s:g} s: {log_tail(log)}"
            )
        await asyncio.sleep(POLL_S)
    return with_endpoints(profile, msgspec.json.decode(path.read_bytes()))


async def _probe(profile: Profile) -> None:
    """Every region's api answers its health check."""
    async with httpx.AsyncClient(timeout=PROBE_TIMEOUT_S, trust_env=False) as client:
        for name, urls in profile.regions.items():
            try:
                answer = await client.get(f"{urls.api}/readyz")
            except httpx.HTTPError as error:
                raise UnavailableError(
                    f"target {profile.name}, region {name}: {urls.api} does not answer "
                    f"({type(error).__name__}); start it, or correct the base URL in the profile"
                ) from error
            if answer.status_code != httpx.codes.OK:
                raise UnavailableError(f"target {profile.name}, region {name}: /readyz answers {answer.status_code}")


def _keep_logs(stack: Path, logs: Path) -> None:
    """Keep the stack's logs with the run; its data goes."""
    kept = logs / KEPT_LOGS
    if (stack / "logs").is_dir():
        shutil.copytree(stack / "logs", kept, dirs_exist_ok=True)
    shutil.rmtree(stack, ignore_errors=True)
