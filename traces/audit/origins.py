"""Calls of the assembly that made a pool or a whole stack."""

from dataclasses import dataclass
from typing import Any

from traces.audit.finding import call_location, definition_location, entry_name, finding_rank
from traces.schema.model import Call, Location, Part, Recording
from traces.schema.verdict import Cause, Kind

_PARTS: tuple[Part, ...] = ("group", "controller")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssemblyOrigin:
    """A call of the assembly: the calling function, the callee and the line."""

    builder: str
    callee: str | None
    location: Location | None

    def finding(
        self, kind: Kind, scenario: str, *, where: str, message: str, values: tuple[Any, Any]
    ) -> Cause:
        """Return a finding about it: the value there should be, and the one there is."""
        return Cause(
            kind=kind,
            rank=finding_rank(kind),
            where=where,
            message=message,
            builder=self.builder,
            callee=self.callee,
            before=values[0],
            after=values[1],
            location=self.location,
            scenarios=(scenario,),
        )


def stack_origin(recording: Recording) -> AssemblyOrigin:
    """Return the call that decides which pools a stack has: the one that makes the group.

    Without a group it is the call that makes the controller, and without either the entry.
    """
    constructors = [call for call in recording.trace.calls if call.role == "constructor"]
    made = (call for part in _PARTS for call in constructors if call.part == part)
    return _call_origin(recording, next(made, None))


def host_pool_origin(recording: Recording, pool: str) -> AssemblyOrigin:
    """Return the call that made the host pool of a name; without one that of the stack."""
    host = (tensor for tensor in recording.trace.tensors if tensor.side == "host")
    labels = [tensor.object for tensor in host if tensor.pool == pool]
    for call in recording.trace.calls:
        if labels and call.returns == {"ref": labels[0]} and call.role == "constructor":
            return _call_origin(recording, call)
    return stack_origin(recording)


def _call_origin(recording: Recording, call: Call | None) -> AssemblyOrigin:
    entry = entry_name(recording)
    if call is None:
        line = definition_location(recording, entry)
        return AssemblyOrigin(builder=entry, callee=None, location=line)
    line = call_location(recording, call) or definition_location(recording, call.callee)
    return AssemblyOrigin(builder=call.caller or entry, callee=call.callee, location=line)
