"""Record what stack builders do, as canonical traces that can be compared."""

from traces.errors import RecorderError, TraceError, TraceFormatError
from traces.model import Recording, Trace
from traces.recorder import Recorder, record

__all__ = [
    "Recorder",
    "RecorderError",
    "Recording",
    "Trace",
    "TraceError",
    "TraceFormatError",
    "record",
]
