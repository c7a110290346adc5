"""Small words of the core: units, seeds, verdicts, errors."""

import numpy as np
import pytest

from harness.core.errors import ExitCode, ResidueError, UnavailableError, UsageError, foremost, nearest
from harness.core.op import text_hash
from harness.core.seeds import rng
from harness.core.units import format_duration, format_size, parse_duration_s, parse_rate_per_s, parse_size_bytes
from harness.core.verdict import Outcome, worst


@pytest.mark.parametrize(
    ("text", "seconds"), [("10s", 10), ("150ms", 0.15), ("250us", 0.00025), ("2m", 120), ("1.5h", 5400)]
)
def test_durations(text, seconds):
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "10 parsecs", "1e3s", 10])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration_s(text)


@pytest.mark.parametrize(("text", "rate"), [("40/s", 40), ("0.2/s", 0.2), ("12/min", 0.2), ("3600/h", 1)])
def test_rates(text, rate):
    assert parse_rate_per_s(text) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("text", "size"), [("100B", 100), ("64kB", 64_000), ("64KiB", 65_536), ("1.5GiB", 3 << 29), ("2 MB", 2_000_000)]
)
def test_sizes(text, size):
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "10", "MiB", "-1MiB", "64K", "1TB", 10])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="must be a size"):
        parse_size_bytes(text)


def test_sizes_are_shown_in_the_unit_that_fits():
    assert [format_size(b) for b in (100, 4096, 512 << 20, 3 << 29)] == ["100 B", "4.0 KiB", "512.0 MiB", "1.5 GiB"]


def test_durations_are_shown_in_the_unit_that_fits():
    assert [format_duration(s) for s in (0.00025, 0.0123, 75)] == ["250 µs", "12.3 ms", "75.0 s"]


def test_named_streams_repeat_and_do_not_disturb_each_other():
    first = rng(1, "posts").random(5)
    assert np.array_equal(first, rng(1, "posts").random(5))
    assert not np.array_equal(first, rng(1, "reads").random(5))
    assert not np.array_equal(first, rng(2, "posts").random(5))


def test_the_worst_outcome_wins_and_nothing_is_no_pass():
    assert worst([Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL]) == Outcome.FAIL
    assert worst([Outcome.PASS, Outcome.INCONCLUSIVE]) == Outcome.INCONCLUSIVE
    assert worst([Outcome.PASS]) == Outcome.PASS
    assert worst([]) == Outcome.INCONCLUSIVE


def test_the_nearest_name_is_offered_or_all_of_them():
    assert nearest("durabilty", ["durability", "order"]) == " (did you mean 'durability'?)"
    assert nearest("zzz", ["b", "a"]) == " (valid: a, b)"


def test_usage_errors_carry_all_problems():
    error = UsageError(["a: bad", "b: worse"])
    assert str(error) == "a: bad\nb: worse"
    assert error.exit_code is ExitCode.USAGE


def test_a_text_hash_is_the_same_in_every_process_and_fits_a_signed_column():
    assert text_hash("hello") == text_hash("hello") != text_hash("hello!")
    assert 0 <= text_hash("hello") < 2**63


def test_of_a_group_the_fault_that_stays_is_told_first_then_what_a_person_can_act_on():
    bug, away, residue = KeyError("x"), UnavailableError("away"), ResidueError("still cut")
    assert foremost(ExceptionGroup("g", [bug, ExceptionGroup("h", [away, residue])])) is residue
    assert foremost(ExceptionGroup("g", [bug, away])) is away
    assert foremost(ExceptionGroup("g", [bug])) is bug
    assert foremost(away) is away
