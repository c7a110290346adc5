"""What a run was made with, as manifest.json says it (`harness.run.manifest` writes it)."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.record.run_directory import RunDirectory


class Manifest(msgspec.Struct, kw_only=True):
    """What the run was made with."""

    scenario: str = ""
    seed: int = 0
    target: str = ""
    defects: list[str] = []
    command: str = ""
    started: str = ""
    git: dict[str, Any] = {}
    machine: dict[str, Any] = {}
    versions: dict[str, str] = {}

    @property
    def started_text(self) -> str:
        """When it was started, as people read it; empty: not known."""
        return self.started.replace("T", " ").replace("+00:00", " UTC")

    @property
    def machine_text(self) -> str:
        """The machine in a line: 2 cores, 24 GiB, AMD EPYC 7763."""
        parts = [f"{self.machine[key]} {unit}" for key, unit in _SIZES if self.machine.get(key)]
        return ", ".join([*parts, str(self.machine.get("cpu", ""))]).strip(", ")

    @property
    def commit(self) -> str:
        """The commit in a few words; empty outside a checkout."""
        head = str(self.git.get("head", ""))[:10]
        return head + (" with local changes" if head and self.git.get("dirty") else "")


_SIZES = (("cores", "cores"), ("memory_gib", "GiB"))


def read_manifest(run: RunDirectory) -> Manifest:
    """The manifest of a run; empty when it has none. Raises msgspec.DecodeError when it is no manifest."""
    if not run.manifest.exists():
        return Manifest()
    return msgspec.json.decode(run.manifest.read_bytes(), type=Manifest)
