"""Reads the TypeError of a call whose arguments did not fit the callee's signature."""

import re
from dataclasses import dataclass

from traces.diff.index import RecordingIndex, argument_values, last_name
from traces.schema.model import Call, Failure

_BIND_ERROR = re.compile(
    r"missing (a|\d+) required|unexpected keyword argument|positional argument|multiple values"
)
_FUNCTION = re.compile(r"([\w.<>]+)\(\) ")
_QUOTED = re.compile(r"'([^']+)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class BindError:
    """What Python said about a call that did not bind.

    Attributes:
        function: qualified name of the function that was called; empty when it was not said.
        missing: required parameters that were not given.
        unexpected: the keyword that the function does not have; empty for none.
    """

    function: str
    missing: tuple[str, ...]
    unexpected: str


def bind_error_of(failure: Failure | None) -> BindError | None:
    """Return what a failure says about a signature; None when it is about something else."""
    if failure is None or failure.type != "TypeError" or not _BIND_ERROR.search(failure.message):
        return None
    function = _FUNCTION.match(failure.message)
    names = _QUOTED.findall(failure.message)
    # Newer versions of Python append "Did you mean 'other'?".
    unexpected = names[0] if names and "unexpected keyword" in failure.message else ""
    return BindError(
        function="" if function is None else function[1],
        missing=tuple(names) if "missing" in failure.message else (),
        unexpected=unexpected,
    )


def call_bind_error(call: Call, side: RecordingIndex, *, partner: Call) -> BindError | None:
    """Return the refusal of a call itself; None when it bound, whatever happened inside.

    Args:
        call: may have raised.
        side: the side it belongs to.
        partner: the same call on the other side.
    """
    refusal = bind_error_of(call.raises)
    if refusal is None or side.children.get(call.call):
        return None
    raw = all(argument.given for argument in call.arguments)
    return refusal if raw and _concerns(refusal, call, partner) else None


def _concerns(refusal: BindError, call: Call, partner: Call) -> bool:
    outer, _, inner = refusal.function.rpartition(".")
    if inner != "__init__":
        return inner in ("", last_name(call.callee))
    if last_name(outer) == last_name(call.callee):
        return True
    # An inherited constructor, or one that this one calls: only the first lacks what the other
    # side has.
    names, bound = argument_values(call).keys(), argument_values(partner).keys()
    lacking = set(refusal.missing) & (bound - names)
    return call.role == "constructor" and (bool(lacking) or refusal.unexpected in names)
