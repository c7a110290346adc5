"""Reads the target's own metrics at the borders of phases: expectations on `target:NAME` are judged from them."""

from __future__ import annotations

from pathlib import Path

import httpx
import msgspec

from harness.contract.profile import Profile
from harness.core.clock import now_ns

TIMEOUT_S = 3.0


async def scrape(profile: Profile, phase: str, at: str, path: Path) -> None:
    """Append one line a region to `path`; a region that does not answer leaves an empty text."""
    async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
        for region, urls in profile.regions.items():
            try:
                answer = await client.get(f"{urls.api}/metrics")
                text = answer.text if answer.status_code == httpx.codes.OK else ""
            except httpx.HTTPError:
                text = ""
            row = {"phase": phase, "at": at, "region": region, "at_ns": now_ns(), "text": text}
            with path.open("ab") as file:
                file.write(msgspec.json.encode(row) + b"\n")
