"""`python -m reference_server.graph`: the graph service."""

from reference_server.graph.service import main
from reference_server.process import run

if __name__ == "__main__":
    run(main)
