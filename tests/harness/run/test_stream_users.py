"""Users are lent by files that only their owner may read, and that go with the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.contract.profile import Profile
from harness.load.plan import LoadPlan
from harness.run.stream_users import MOST_USERS, forget_tokens, with_token_files, write_token_files

HANDLES: dict[str, dict[str, Any]] = {
    "us.fep": {"backend": "process", "stream": "http://127.0.0.1:1/v1/stream", "region": "us"},
    "ap.fep": {"backend": "process", "stream": "http://127.0.0.1:2/v1/stream", "region": "ap"},
    "eu.fep": {"backend": "process", "stream": "http://127.0.0.1:3/v1/stream", "region": "eu", "token_file": "/ours"},
    "us.api": {"backend": "process", "reads": "http://127.0.0.1:4/v1/feed", "region": "us"},
    "us.graph": {"backend": "process", "region": "us"},
}
TOKENS = {user: f"token-{user}" for user in range(2000)}


def plan(tmp_path: Path, **members: tuple[tuple[int, str], ...]) -> LoadPlan:
    return LoadPlan(seed=1, run=str(tmp_path), users=2000, phases=(), regions={}, rates={}, **members)  # type: ignore[arg-type]


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return with_token_files(Profile(name="t", handles=HANDLES), tmp_path)


def test_handles_with_streams_or_feeds_name_a_file_of_the_run(profile: Profile, tmp_path: Path) -> None:
    named = {name: handle.get("token_file") for name, handle in profile.handles.items()}
    files = {"us.fep": str(tmp_path / "tokens.us.txt"), "ap.fep": str(tmp_path / "tokens.ap.txt")}
    assert named == {**files, "eu.fep": "/ours", "us.api": files["us.fep"], "us.graph": None}
    assert list(tmp_path.iterdir()) == []


def test_listeners_of_the_region_come_first(profile: Profile, tmp_path: Path) -> None:
    members = plan(tmp_path, listeners=((3, "us"), (5, "ap"), (7, "us")), panel=((1, "us"), (3, "us"), (9, "us")))
    write_token_files(profile, tmp_path, members, TOKENS)
    assert (tmp_path / "tokens.us.txt").read_text().split() == ["token-3", "token-7", "token-1", "token-9"]
    assert (tmp_path / "tokens.ap.txt").read_text().split() == ["token-5"]
    assert not Path("/ours").exists()


def test_only_the_owner_reads_them_and_not_for_long(profile: Profile, tmp_path: Path) -> None:
    (tmp_path / "tokens.us.txt").write_text("of an earlier run, readable by all")
    write_token_files(profile, tmp_path, plan(tmp_path, panel=((1, "us"),)), TOKENS)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("tokens.*")} == {0o600}
    (tmp_path / "tokens.json").touch()
    forget_tokens(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_not_more_than_needed(profile: Profile, tmp_path: Path) -> None:
    write_token_files(profile, tmp_path, plan(tmp_path, panel=tuple((user, "us") for user in range(2000))), TOKENS)
    assert len((tmp_path / "tokens.us.txt").read_text().split()) == MOST_USERS
