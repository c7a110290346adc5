"""Command line of the reference stack: `python -m reference_server up | down | status | trace`."""

import sys

from reference_server.supervisor.command_line import main

if __name__ == "__main__":
    sys.exit(main())
