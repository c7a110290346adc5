"""Files over a link: whole and right, or not there. Secrets: proven, not sent."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.run.link import File, Inbox, LinkLost
from harness.run.secret import MASTER, WORKER, Conversation, is_proven, new_nonce, proof, read_secret

SECRET = b"0123456789abcdef"


def announced(data: bytes, name: str = "plan", claimed: int | None = None) -> File:
    return File(name, len(data) if claimed is None else claimed, hashlib.sha256(data).hexdigest())


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_in_pieces(tmp_path: Path) -> None:
    inbox = Inbox({"plan": tmp_path / "a", "empty": tmp_path / "b"})
    inbox.begin(announced(b"one two"))
    inbox.add(b"one ")
    assert left(tmp_path) == [".a.part"]
    inbox.add(b"two")
    inbox.begin(announced(b"", "empty"))
    assert (tmp_path / "a").read_bytes() == b"one two"
    assert left(tmp_path) == ["a", "b"]
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0
    assert inbox.got == {"plan", "empty"}


def test_a_damaged_file_is_none(tmp_path: Path) -> None:
    inbox = Inbox({"plan": tmp_path / "a"})
    inbox.begin(announced(b"good"))
    with pytest.raises(LinkLost, match="damaged"):
        inbox.add(b"evil")
    inbox.close()
    assert left(tmp_path) == []
    assert inbox.got == set()


@pytest.mark.parametrize("name", ["other", "../a", "/etc/passwd", ""])
def test_only_what_is_expected_is_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(LinkLost, match="was not expected"):
        Inbox({"plan": tmp_path / "a"}).begin(announced(b"x", name))
    assert left(tmp_path) == []


def test_nothing_is_taken_twice_or_beyond_its_size(tmp_path: Path) -> None:
    inbox = Inbox({"plan": tmp_path / "a", "tokens": tmp_path / "b"})
    with pytest.raises(LinkLost, match="not announced"):
        inbox.add(b"x")
    inbox.begin(announced(b"xy"))
    with pytest.raises(LinkLost, match="not announced"):
        inbox.add(b"xyz")
    with pytest.raises(LinkLost, match="not expected"):
        inbox.begin(announced(b"z", "tokens"))
    inbox.add(b"xy")
    with pytest.raises(LinkLost, match="not expected"):
        inbox.begin(announced(b"xy"))


def test_a_proof_serves_one_side_of_one_conversation() -> None:
    ours, theirs = new_nonce(), new_nonce()
    seen = Conversation(ours, theirs, "certificate")
    given = proof(SECRET, WORKER, seen)
    assert is_proven(SECRET, WORKER, seen, given)
    assert not is_proven(SECRET, MASTER, seen, given)
    assert not is_proven(SECRET, WORKER, replace(seen, master_nonce=new_nonce()), given)
    assert not is_proven(SECRET, WORKER, replace(seen, worker_nonce=new_nonce()), given)
    assert not is_proven(SECRET, WORKER, replace(seen, certificate="another"), given)
    assert not is_proven(b"another secret!!", WORKER, seen, given)
    assert not is_proven(SECRET, WORKER, seen, "ä")
    assert SECRET.decode() not in given


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (SECRET, 0o640, "others may read it; chmod 600"),
        (b"short\n", 0o600, "shorter than 16"),
        (None, 0, "openssl rand"),
    ],
)
def test_a_bad_secret_file_is_refused_with_the_fix(
    tmp_path: Path, content: bytes | None, mode: int, problem: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(UsageError, match=problem):
        read_secret(path)


def test_a_secret_is_its_file_without_the_line_end(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o600)
    assert read_secret(path) == SECRET
