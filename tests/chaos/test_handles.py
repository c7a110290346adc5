"""What a profile's table becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.handles import PATHS, parse_handle


def test_paths_do_not_depend_on_where_the_undo_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = {"backend": "process", "ready": "tcp://127.0.0.1:1", **{field: f"run/{field}" for field in PATHS}}
    handle = parse_handle("a", table)
    monkeypatch.chdir("/")
    assert {field: getattr(handle, field) for field in PATHS} == {field: f"{tmp_path}/run/{field}" for field in PATHS}


def test_absolute_paths_and_those_left_out_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    handle = parse_handle("a", {"backend": "process", "pid_file": "/x/pid"})
    assert (handle.pid_file, handle.hold_file, handle.log) == ("/x/pid", "", "")
