"""`python -m reference_server.replication`: the replicator."""

from reference_server.process import run
from reference_server.replication.service import main

if __name__ == "__main__":
    run(main)
