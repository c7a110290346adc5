"""`python -m reference_server.api --settings FILE --region NAME --name api-K`: becomes an api's granian server."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress

from reference_server.api.command import LEADER, granian_command
from reference_server.parent import die_with_parent
from reference_server.settings import read_settings


def main() -> None:
    """Read the port from the settings, hand the arguments on in the environment, become granian."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--settings", required=True)
    parser.add_argument("--region", required=True)
    parser.add_argument("--name", required=True)
    arguments = parser.parse_args()
    parent = os.getppid()
    die_with_parent()  # survives the exec below
    if os.getppid() != parent:
        return
    _batch()
    region = read_settings(arguments.settings).region(arguments.region)
    port = region.api_ports[int(arguments.name.rpartition("-")[2])]
    os.environ |= {
        "FEEDSTORM_SETTINGS": arguments.settings,
        "FEEDSTORM_REGION": arguments.region,
        "FEEDSTORM_NAME": arguments.name,
        LEADER: str(os.getpid()),
    }
    command = granian_command(port)
    os.execv(command[0], command)


def _batch() -> None:
    """Have none of this process's threads interrupt another when it wakes up; survives the exec, as above.

    Granian's has requests and answers, the loop's works on them, and each answer wakes the other: where they share a
    processor that is two switches a request, unless the one that has it keeps it for a while (docs/adr/0025).
    """
    with suppress(OSError):  # not allowed here: it works all the same
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


if __name__ == "__main__":
    main()
