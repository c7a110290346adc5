"""Feature flags: what there is, and what each is set to now. Every technique can be switched while the stack runs."""

from reference_server.flags.registry import (
    FLAGS,
    PRESETS,
    START_ONLY,
    FlagInfo,
    FlagInvalid,
    Flags,
    make_flags,
    parse_flag,
)

__all__ = [
    "FLAGS",
    "PRESETS",
    "START_ONLY",
    "FlagInfo",
    "FlagInvalid",
    "Flags",
    "make_flags",
    "parse_flag",
]
