"""Conversion of differences into the causes of a verdict, with names, line and message."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from traces.diff.attribute.lineage import ArgumentChains, responsible_builder
from traces.diff.compare.events import EventDifference
from traces.diff.compare.results import describe_failure
from traces.diff.differences import ArgumentChange, Difference, DiffLayer, count_consequences
from traces.diff.index import argument_values, last_name
from traces.diff.locations import LocationFinder
from traces.diff.pairing import CallPairing
from traces.diff.values import is_mapping
from traces.schema.model import Call, Event, Location, Unbound
from traces.schema.verdict import Cause, Kind

_ARGUMENT_TEXTS = {
    Kind.ARGUMENT_DROPPED: "no longer passes {name} to {callee}",
    Kind.ARGUMENT_ADDED: "now passes {name} to {callee}",
    Kind.ARGUMENT_CHANGED: "passes another value of {name} to {callee}",
    Kind.PARAMETER_REMOVED: "calls {callee}, which no longer has the parameter {name}",
    Kind.PARAMETER_ADDED: "calls {callee}, which has the new parameter {name}",
}
_DIFFERENCE_TEXTS = {
    Kind.CALL_REMOVED: "is no longer made",
    Kind.CALL_ADDED: "is new",
    Kind.CALL_REORDERED: "happen elsewhere or in another order",
    Kind.POOL_REMOVED: "has no buffers any more",
    Kind.POOL_ADDED: "is new",
    Kind.TRANSFER_REMOVED: "no longer happens",
    Kind.TRANSFER_ADDED: "is new",
    Kind.ORDER_EDGE_REMOVED: "no longer happens",
    Kind.ORDER_EDGE_ADDED: "is new",
}
_MAY_BE_MOVED = (Kind.TRANSFER_REMOVED, Kind.TRANSFER_ADDED, Kind.TRANSFER_CHANGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseWriter:
    """Writer of the causes of one scenario."""

    pairing: CallPairing
    chains: ArgumentChains
    locations: LocationFinder

    def cause(self, found: Difference) -> Cause:
        """Return a difference as a cause, with builder, consumer, line and message."""
        cause = Cause(
            kind=found.kind,
            level=found.level,
            callee=found.callee,
            parameter=found.parameter,
            before=found.before,
            after=found.after,
            location=found.location,
            scenarios=(self.pairing.head.trace.scenario.name,),
            consequences=count_consequences(found.consequences),
            where=found.where,
            subject=found.subject,
            count=found.count,
            message=found.message,
            rank=found.rank,
        )
        if found.argument is not None:
            return self._with_consumer(cause, found, found.argument)
        if found.message:
            return cause
        cause = self._with_place(cause, found)
        failure = self.pairing.head.trace.outcome.failure
        error = None if failure is None else failure.unbound
        if found.layer is DiffLayer.OUTCOME and error is not None and not self.pairing.base.failed:
            cause = self._with_unbound_keyword(cause, found, error)
        if cause.message:
            return cause
        text = f"{found.where} {_DIFFERENCE_TEXTS.get(found.kind, 'differs')}"
        if _is_moved(found, self.pairing.head.trace.events):
            text = f"{found.where} happens at another place in the order of transfers"
        if cause.callee and cause.callee not in found.where:
            text += f", in {cause.callee}"
        return msgspec.structs.replace(cause, message=f"{text}.")

    def _with_consumer(self, cause: Cause, found: Difference, root: ArgumentChange) -> Cause:
        """Name the final consumer of an argument, and the builder on the way to it."""
        head = self.pairing.head
        consumer = self.chains.consumer(root, found.members)
        calls = self.chains.path(root, consumer)
        path = tuple(call.callee for call in calls)
        enclosing = list(head.ancestors(root.pair.head.call))
        others = [
            Difference.of_argument(
                member, 2 * head.positions[member.pair.head.call] + 1, DiffLayer.ASSEMBLY
            )
            for member in found.members
            if member is not root and not _repeats(member, root)
            if member.pair.head not in calls
            or not member.has_values_of(root, self.pairing.references)
        ]
        return msgspec.structs.replace(
            cause,
            callee=consumer.callee,
            parameter=_published_name(root, consumer),
            path=path,
            builder=responsible_builder(enclosing, calls),
            message=_argument_message(root, consumer, enclosing, swapped_with=found.swapped_with),
            consequences=count_consequences([*found.consequences, *others]),
        )

    def _with_place(self, cause: Cause, found: Difference) -> Cause:
        """Name the call and the line of a difference that is no argument."""
        if isinstance(found, EventDifference):
            return self._at_line(cause, found.location or self.locations.of_event(found))
        if found.layer is DiffLayer.DIGESTS:
            return self._at_line(cause, found.location or self.locations.of_content(found))
        call = self.pairing.call(base=found.base_call, head=found.head_call)
        line = self.pairing.head.sites.failure if found.layer is DiffLayer.OUTCOME else None
        if call is None:
            ends = found.layer is DiffLayer.OUTCOME
            return self._at_line(cause, line or self.locations.of_end()) if ends else cause
        side = self.pairing.side(in_head=bool(found.head_call))
        location = found.location or self.locations.of_call(found)
        operation = found.layer is DiffLayer.OPERATIONS and found.kind is Kind.OUTCOME_CHANGED
        if operation or found.layer in (DiffLayer.TENSORS, DiffLayer.OUTCOME):
            location = line or self.locations.of_definition(call.callee) or location
        return msgspec.structs.replace(
            cause,
            callee=call.callee,
            path=(call.callee,),
            builder=responsible_builder(list(side.ancestors(call.call)), (call,)),
            location=location,
        )

    def _with_unbound_keyword(self, cause: Cause, found: Difference, error: Unbound) -> Cause:
        """Name the keyword when a call that is not recorded did not bind."""
        name = next((name for name in (*error.missing, error.unexpected) if name), "")
        if not name:
            return cause
        origin = self.pairing.call(base=found.base_call, head=found.head_call)
        consumer = self._call_with_argument(origin, name)
        callee = error.function if consumer is None else consumer.callee
        itself = replace(found, consequences=[])
        return msgspec.structs.replace(
            cause,
            kind=Kind.ARGUMENT_DROPPED if error.missing else Kind.PARAMETER_REMOVED,
            parameter=name,
            where=f"{error.function}.{name}",
            callee=callee,
            before=None if consumer is None else argument_values(consumer)[name],
            after=None,
            path=tuple(dict.fromkeys([error.function, callee])),
            message=f"{describe_failure(self.pairing.head.trace.outcome.failure)}.",
            consequences=count_consequences([*found.consequences, itself]),
        )

    def _call_with_argument(self, origin: Call | None, name: str) -> Call | None:
        """Return the deepest call, best a constructor, that got an argument in the base."""
        base = self.pairing.base
        pair = None if origin is None else self.pairing.by_head_call.get(origin.call)
        calls = [] if pair is None else [pair.base, *base.nested(pair.base.call)]
        return max(
            (call for call in calls if name in argument_values(call)),
            key=lambda call: (call.role == "constructor", base.depth(call.call)),
            default=None,
        )

    def _at_line(self, cause: Cause, location: Location | None) -> Cause:
        calls = self.pairing.head.calls or self.pairing.base.calls
        builders = [call for call in calls if call.role == "builder"]
        return msgspec.structs.replace(
            cause,
            location=location,
            callee=self.locations.function_at(location),
            builder=responsible_builder((), builders),
        )


def _is_moved(found: Difference, events: Sequence[Event]) -> bool:
    """Return whether the same transfers happen at other places; ``events`` are those of the head.

    A series of them is not aligned one to one with itself: some pairs then differ in their slots.
    """
    if not isinstance(found, EventDifference) or found.kind not in _MAY_BE_MOVED:
        return False
    series = [found, *found.consequences]
    alike = [one for one in series if isinstance(one, EventDifference) and one.where == found.where]
    lost = Counter(one.event for one in alike if one.base_index is not None)
    new = Counter(events[one.head_index] for one in alike if one.after is not None)
    return lost == new


def _argument_message(
    root: ArgumentChange, consumer: Call, enclosing: Sequence[Call], *, swapped_with: str
) -> str:
    """Return a sentence on what the caller does, and which object it concerns in the end."""
    caller = enclosing[0].callee if enclosing else "the scenario"
    callee = root.pair.head.callee
    if root.by_default:
        text = f"{callee} has another default for {root.parameter}"
    else:
        text = f"{caller} {_ARGUMENT_TEXTS[root.kind].format(name=root.parameter, callee=callee)}"
    if swapped_with:
        text += f": {root.parameter} and {swapped_with} are swapped"
    if not root.effective:
        return f"{text}, without effect on its value."
    return f"{text}." if consumer.callee == callee else f"{text}; it was for {consumer.callee}."


def _published_name(root: ArgumentChange, consumer: Call) -> str:
    """Return the name of an argument; of a field of a mapping that of the consumer's parameter.

    Without such a parameter the field has its dotted name.
    """
    name = last_name(root.parameter)
    given = argument_values(root.pair.head).get(root.name)
    is_published = is_mapping(given) and name in argument_values(consumer)
    return name if is_published else root.parameter


def _repeats(member: ArgumentChange, root: ArgumentChange) -> bool:
    """Return whether a member is the root once more: the same line, run again."""
    one, other = member.pair.head, root.pair.head
    names = (one.callee, one.caller) == (other.callee, other.caller)
    return member.kind is root.kind and names
