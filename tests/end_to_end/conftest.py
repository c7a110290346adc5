"""Whole stacks for tests, ended with the test whatever happens."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "harness" / "load"))
sys.path.insert(0, str(Path(__file__).parents[1] / "reference_server"))

from stack_process import start_stack

__all__ = ["start_stack"]
