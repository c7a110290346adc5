"""`python -m reference_server.fep --settings F --region R --name fep-0`."""

from reference_server.fep.edge import main
from reference_server.process import run

run(main)
