"""What keeps one api process of use when more is asked of it than it can do. docs/overload.md tells the whole.

gate      the ASGI middleware: kill switch -> rates -> level -> body -> slot -> application
state     `Overload`: what the gate decides by, and what handlers may ask (`parts.overload.level`)
"""

from reference_server.api.overload.gate import Gate
from reference_server.api.overload.routes import Priority
from reference_server.api.overload.state import Overload

__all__ = ["Gate", "Overload", "Priority"]
