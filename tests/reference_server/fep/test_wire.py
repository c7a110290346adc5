"""Resume tokens. (The bytes of events are pinned by tests/golden.)"""

from __future__ import annotations

import pytest

from reference_server.fep import wire

REGION = "us-east"


def seq(epoch: int, record: int) -> int:
    return epoch << 48 | record


@pytest.mark.parametrize(("epoch", "record"), [(0, 0), (1, 41), (65535, (1 << 48) - 1)])
def test_tokens_go_both_ways(epoch: int, record: int) -> None:
    text = wire.token(REGION, seq(epoch, record))
    assert text == f"us-east.{epoch}.{record}"
    assert wire.seq_of(REGION, text) == seq(epoch, record)


NOT_OURS = ["", "us-east", "us-east.1", "ap-tokyo.1.1", "us-east.65536.1", f"us-east.1.{1 << 48}"]
GARBLED = ["us-east.-1.1", "us-east.1.1 ", "us-east.1.x", "us-east.1.٣", "us-east.1.1.1"]


@pytest.mark.parametrize("text", [*NOT_OURS, *GARBLED])
def test_what_is_no_token_of_this_region(text: str) -> None:
    assert wire.seq_of(REGION, text) is None
