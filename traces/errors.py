"""Errors of this package, one line each: *subject: rule; expected X, got Y*."""

from typing_extensions import override


class TraceError(Exception):
    """Base of the errors raised by this package on purpose; the message is always one line.

    Attributes:
        subject: what is wrong: a file, a callable, the recorder.
        rule: the rule it breaks.
    """

    def __init__(self, subject: str, rule: str, *, expected: object, got: object) -> None:
        super().__init__(" ".join(f"{subject}: {rule}; expected {expected}, got {got}".split()))
        self.subject = subject
        self.rule = rule

    @override
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Pickle the error as its line."""
        return _rebuild_error, (type(self), str(self), self.subject, self.rule)


class TraceFormatError(TraceError, ValueError):
    """A text is no trace of this schema, or a trace holds what the schema cannot hold."""


class RecorderError(TraceError, RuntimeError):
    """A recording is incomplete or ambiguous and must not be used."""


class InstrumentError(TraceError, RuntimeError):
    """A callable cannot be instrumented, or could not be restored."""


class GoldenWriteError(TraceError, RuntimeError):
    """A golden must not or cannot be written."""


class GoldenNameError(TraceError, ValueError):
    """A golden's name could not be a file's name on every machine."""


def _rebuild_error(kind: type[TraceError], line: str, subject: str, rule: str) -> TraceError:
    error = kind.__new__(kind, line)
    error.args = (line,)
    error.subject, error.rule = subject, rule
    return error
