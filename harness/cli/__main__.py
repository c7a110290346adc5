"""`python -m harness.cli`: the same as the `feedstorm` command."""

from harness.cli import main

main()
