"""docs/extend/fault.md cannot rot: its example runs, and its table lists every kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from chaos_targets import ROOT

from chaos.faults import KINDS
from chaos.kind import FaultKind
from chaos.ledger import heal, open_faults
from chaos.schedule import FaultRunner
from chaos.timeline import DueFault
from harness.core.clock import now_ns

PAGE = (ROOT / "docs/extend/fault.md").read_text(encoding="utf-8")


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultKind[Any]:
    found = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(compile(found[1], "fault.md", "exec"), names)
    kind: FaultKind[Any] = names["ReadOnly"]()
    monkeypatch.setitem(KINDS, kind.name, kind)
    return kind


async def test_the_example_works(example: FaultKind[Any], tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    handles = {"store": {"backend": "process", "pid_file": "none"}}
    fault = DueFault(
        id="f1", kind="read-only", handle="store", hold_s=0.01, due_ns=now_ns(), params={"path": str(folder)}
    )
    runner = FaultRunner(handles, tmp_path / "ledger.jsonl", tmp_path / "faults.jsonl")
    await runner.run([fault])
    assert runner.rows[0].witness.evidence == f"{folder} has mode 555"
    assert folder.stat().st_mode & 0o777 == 0o755
    assert open_faults(tmp_path / "ledger.jsonl") == []
    assert heal(tmp_path / "ledger.jsonl") == []


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_is_on_the_page(name: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
    kind = KINDS[name]
    assert all(f"`{parameter}`" in row for parameter in kind.parameters)
    assert re.fullmatch(r"#[0-9a-f]{6}", kind.colour)
    assert kind.about.endswith(".")
