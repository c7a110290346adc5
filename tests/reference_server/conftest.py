"""Real stacks for tests, ended with the test whatever happens."""

from stack_process import start_stack

__all__ = ["start_stack"]
