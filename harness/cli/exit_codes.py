"""Which exit code a verdict ends a command with."""

from __future__ import annotations

from harness.core.errors import ExitCode
from harness.core.verdict import Outcome

EXIT_OF = {
    Outcome.PASS: ExitCode.PASS,
    Outcome.FAIL: ExitCode.FAIL,
    Outcome.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}
