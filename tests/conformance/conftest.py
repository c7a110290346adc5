from pathlib import Path

import msgspec
import pytest

from harness.contract.profile import Profile, RegionUrls, load_profile

FOLDER = Path(__file__).parent


@pytest.fixture
def memory_profile() -> Profile:
    """The profile of the in-memory feed, without addresses."""
    return load_profile(FOLDER / "memory_feed.toml")


@pytest.fixture
def at(memory_profile):
    """The same profile at one base URL."""

    def profile_at(url: str) -> Profile:
        return msgspec.structs.replace(memory_profile, regions={"memory": RegionUrls(api=url, stream=url)})

    return profile_at
