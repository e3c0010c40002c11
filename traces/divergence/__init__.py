"""Search for the first divergence of two sides of one scenario.

An ordinary trace holds what is recorded at probes. A fault between two probes shows there only by
its effect. When a scenario can be run again on both sides, every call of the package's own
functions is logged, with inputs, result and the state it leaves, and the two logs are compared call
by call.
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
