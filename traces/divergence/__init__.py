"""The second look: where two sides of one scenario part for the first time.

An ordinary trace holds what is recorded at the seams. What goes wrong between two seams shows there
by its effect. When both sides can be played again, every call of the package's own functions is
logged, with what it was given, what it gave back and what it left behind, and the two logs are
walked side by side.
"""

from traces.divergence.locate import Replayer, locate_divergence
from traces.divergence.logs import CallLog, CallNode, LineLog, LineStop
from traces.divergence.tracer import log_calls, log_lines, log_run

__all__ = [
    "CallLog",
    "CallNode",
    "LineLog",
    "LineStop",
    "Replayer",
    "locate_divergence",
    "log_calls",
    "log_lines",
    "log_run",
]
