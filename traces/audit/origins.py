"""Which call of the assembly a pool or a whole stack is due to."""

from dataclasses import dataclass

from traces.audit.finding import definition_location, entry_name, to_location
from traces.schema.model import Call, Location, Recording

_GROUP = "HostPoolGroup"
_CONTROLLER = "Controller"


@dataclass(frozen=True, slots=True, kw_only=True)
class AssemblyOrigin:
    """Who assembled something: the function, what it called, and the line."""

    builder: str
    callee: str | None
    location: Location | None


def stack_origin(recording: Recording) -> AssemblyOrigin:
    """Return who decided which pools a stack has: the call that makes the group.

    Without a group it is the call that makes the controller, and without either the entry.
    """
    calls = recording.trace.calls
    made = [call for call in calls if call.callee == _GROUP]
    made += [
        call for call in calls if call.role == "constructor" and call.callee.endswith(_CONTROLLER)
    ]
    return _call_origin(recording, made[0] if made else None)


def object_origin(recording: Recording, label: str) -> AssemblyOrigin:
    """Return who made the object of that label: ``MLATokenToKVPoolHost#1``."""
    for call in recording.trace.calls:
        if call.returns == {"ref": label} and call.role == "constructor":
            return _call_origin(recording, call)
    return stack_origin(recording)


def _call_origin(recording: Recording, call: Call | None) -> AssemblyOrigin:
    entry = entry_name(recording)
    if call is None:
        return AssemblyOrigin(
            builder=entry, callee=None, location=definition_location(recording, entry)
        )
    sites = recording.sites
    by_label = {one.call: one for one in recording.trace.calls}
    line = None if sites is None else to_location(sites.calls.get(call.call))
    caller = by_label.get(call.parent)
    return AssemblyOrigin(
        builder=entry if caller is None else caller.callee,
        callee=call.callee,
        location=line or definition_location(recording, call.callee),
    )
