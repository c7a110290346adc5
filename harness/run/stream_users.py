"""Lends users of a run to faults that act as users: a file of tokens for each handle that serves streams or feeds.

A fault gets the path alone; the tokens are in no plan, ledger, command line or log, and their files go with the run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from harness.contract.profile import Profile
from harness.load.members import plan_users
from harness.load.plan import PRIVATE_MODE, LoadPlan

MOST_USERS = 1000
"""of a region"""
_FIELD = "token_file"
_SERVES = ("stream", "reads")
"""fields of a handle that serves users"""


def with_token_files(profile: Profile, run: Path) -> Profile:
    """The profile with a file named for each handle that serves users and has no file yet. Writes nothing."""
    handles = {name: _with_file(handle, run) for name, handle in profile.handles.items()}
    return msgspec.structs.replace(profile, handles=handles)


def write_token_files(profile: Profile, run: Path, plan: LoadPlan, tokens: Mapping[int, str]) -> None:
    """Write the files that `with_token_files` named: who listens in the handle's region, or else whoever acts there."""
    members = [*plan.listeners, *plan_users(plan).items()]
    for handle in profile.handles.values():
        path = _file(handle, run)
        if handle.get(_FIELD) == str(path):
            users = dict.fromkeys(user for user, region in members if region == handle["region"])
            _write(path, [tokens[user] for user in users if user in tokens][:MOST_USERS])


def forget_tokens(run: Path) -> None:
    """Delete every file of tokens of a run."""
    for path in run.glob("tokens.*"):
        path.unlink(missing_ok=True)


def _with_file(handle: dict[str, Any], run: Path) -> dict[str, Any]:
    serves_users = any(handle.get(field) for field in _SERVES)
    if not serves_users or not handle.get("region") or handle.get(_FIELD):
        return handle
    return {**handle, _FIELD: str(_file(handle, run))}


def _file(handle: Mapping[str, Any], run: Path) -> Path:
    return run.resolve() / f"tokens.{handle.get('region', '')}.txt"


def _write(path: Path, tokens: list[str]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_MODE)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), PRIVATE_MODE)
        file.writelines(f"{token}\n" for token in tokens)
