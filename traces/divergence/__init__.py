"""The second look: where two sides of one scenario part for the first time.

An ordinary trace holds what is recorded at the seams. What goes wrong between two seams shows there
by its effect. When both sides can be played again, every call of the package's own functions is
logged, with what it was given, what it gave back and what it left behind, and the two logs are
walked side by side.
"""

from traces.divergence.calls import CallLog, CallNode, LineLog, Stop
from traces.divergence.look import Replayer, second_look
from traces.divergence.tracer import logged_calls, logged_lines, replayed

__all__ = [
    "CallLog",
    "CallNode",
    "LineLog",
    "Replayer",
    "Stop",
    "logged_calls",
    "logged_lines",
    "replayed",
    "second_look",
]
