from pathlib import Path

import msgspec
import pytest
from memory_state import OPERATOR_TOKEN

from harness.contract.profile import Profile, RegionUrls, load_profile

FOLDER = Path(__file__).parent


@pytest.fixture
def memory_profile() -> Profile:
    """The profile of the in-memory feed, without addresses."""
    return load_profile(FOLDER / "memory_feed.toml")


@pytest.fixture
def at(memory_profile, tmp_path):
    """The same profile at one base URL, with the operator's token."""
    token = tmp_path / "operator.token"
    token.write_text(OPERATOR_TOKEN)

    def profile_at(url: str) -> Profile:
        return msgspec.structs.replace(
            memory_profile, regions={"memory": RegionUrls(api=url, stream=url)}, operator_token_file=str(token)
        )

    return profile_at
