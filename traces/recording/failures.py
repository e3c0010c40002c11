"""Records of exceptions: type, text, and what they say in fields of their own."""

import re

from traces.schema.model import Failure, Unbound

# Python itself says only in words which argument of a call did not fit.
_UNBOUND = re.compile(
    r"missing (a|\d+) required|unexpected keyword argument|positional argument|multiple values"
)
_FUNCTION = re.compile(r"([\w.<>]+)\(\) ")
_QUOTED = re.compile(r"'([^']+)'")


def failure_of(error: BaseException) -> Failure:
    """Return the record of an exception."""
    parts = (getattr(error, name, "") for name in ("subject", "rule", "expected", "got"))
    subject, rule, expected, got = map(str, parts)
    return Failure(
        type=type(error).__name__,
        message=str(error),
        subject=subject,
        rule=rule,
        expected=expected,
        got=got,
        unbound=_unbound(str(error)) if isinstance(error, TypeError) else None,
    )


def _unbound(message: str) -> Unbound | None:
    """Read Python's text about a call that did not bind; None for a text about something else."""
    if not _UNBOUND.search(message):
        return None
    function = _FUNCTION.match(message)
    names = _QUOTED.findall(message)
    # Newer versions of Python append "Did you mean 'other'?".
    unexpected = names[0] if names and "unexpected keyword" in message else ""
    return Unbound(
        function="" if function is None else function[1],
        missing=tuple(names) if "missing" in message else (),
        unexpected=unexpected,
    )
