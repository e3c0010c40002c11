"""Turns drafts into causes: names the builder, the consumer and the line."""

from collections.abc import Sequence
from dataclasses import dataclass

from traces.diff.attribute.cause_builder import CauseBuilder, argument_difference
from traces.diff.attribute.chains import ArgumentChains, responsible_builder
from traces.diff.compare.arguments import ArgumentChange
from traces.diff.compare.bind_errors import BindError, bind_error_of
from traces.diff.compare.results import describe_failure
from traces.diff.differences import Difference, DiffLayer, count_consequences
from traces.diff.index import RecordingIndex, argument_values
from traces.diff.locations import LocationFinder
from traces.diff.messages import argument_message, difference_message
from traces.diff.values import CallPair, same_value
from traces.schema.model import Call, Location
from traces.schema.verdict import Cause, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseWriter:
    """Completes drafts of one scenario."""

    base: RecordingIndex
    head: RecordingIndex
    chains: ArgumentChains
    locations: LocationFinder
    scenario: str

    def cause(self, draft: CauseBuilder) -> Cause:
        """Return a draft as a cause."""
        if draft.root is not None:
            self._complete_argument(draft, draft.root)
        elif draft.source is not None:
            self._complete_difference(draft, draft.source)
        return Cause(
            kind=draft.kind,
            level=draft.level,
            builder=draft.builder,
            callee=draft.callee,
            parameter=draft.parameter,
            before=draft.before,
            after=draft.after,
            location=draft.location,
            scenarios=(self.scenario,),
            consequences=count_consequences(draft.found),
            where=draft.where,
            path=draft.path,
            variants=(),
            count=draft.count,
            message=draft.message,
            rank=draft.rank,
        )

    def _complete_argument(self, draft: CauseBuilder, root: ArgumentChange) -> None:
        consumer = self.chains.consumer(root, draft.members)
        path = self.chains.path(root, consumer)
        enclosing = list(self.head.ancestors(root.pair.head.call))
        draft.callee = consumer.callee
        draft.path = tuple(call.callee for call in path)
        draft.builder = responsible_builder(enclosing, draft.path)
        draft.message = argument_message(root, consumer, enclosing, swapped=draft.message)
        for member in draft.members:
            handed_down = member.pair.head in path and self._same_values(member, root)
            if member is not root and not handed_down and not _repeats(member, root):
                position = 2 * self.head.positions[member.pair.head.call] + 1
                layer = DiffLayer.ASSEMBLY
                draft.add_consequences(
                    [argument_difference(member, position=position, layer=layer)]
                )

    def _same_values(self, member: ArgumentChange, root: ArgumentChange) -> bool:
        references = self.chains.pairing.references
        return same_value(member.before, root.before, references) and same_value(
            member.after, root.after, references
        )

    def _complete_difference(self, draft: CauseBuilder, source: Difference) -> None:
        place = {
            DiffLayer.ASSEMBLY: self._in_call,
            DiffLayer.TENSORS: self._in_constructor,
            DiffLayer.EVENTS: self._in_event,
            DiffLayer.OPERATIONS: self._in_operation,
            DiffLayer.DIGESTS: self._in_content,
            DiffLayer.OUTCOME: self._in_ending,
        }[source.layer]
        place(draft, source)
        draft.message = draft.message or difference_message(source, draft.callee)

    def _in_call(self, draft: CauseBuilder, source: Difference) -> None:
        call = self._call(source)
        side = self.head if source.head_call else self.base
        if call is None:
            return
        draft.callee = call.callee
        draft.path = (call.callee,)
        draft.builder = responsible_builder(list(side.ancestors(call.call)), draft.path)
        draft.location = draft.location or self.locations.of_call(
            base_call=source.base_call, head_call=source.head_call
        )
        named = source.kind.startswith(("argument", "parameter"))
        if named and source.where.startswith(f"{call.callee}."):
            draft.parameter = source.where.removeprefix(f"{call.callee}.")

    def _in_operation(self, draft: CauseBuilder, source: Difference) -> None:
        self._in_call(draft, source)
        if source.kind is Kind.OUTCOME_CHANGED and draft.callee is not None:
            draft.location = self.locations.of_definition(draft.callee) or draft.location

    def _in_constructor(self, draft: CauseBuilder, source: Difference) -> None:
        self._in_call(draft, source)
        if draft.callee is not None:
            draft.location = self.locations.of_definition(draft.callee) or draft.location

    def _in_event(self, draft: CauseBuilder, source: Difference) -> None:
        self._locate(draft, self.locations.of_event(source))

    def _in_content(self, draft: CauseBuilder, source: Difference) -> None:
        self._locate(draft, self.locations.of_content(source))

    def _in_ending(self, draft: CauseBuilder, source: Difference) -> None:
        line = self.head.failure_line()
        origin = self._call(source)
        if origin is None:
            self._locate(draft, line or self.locations.of_end())
        else:
            self._in_call(draft, source)
            draft.location = line or self.locations.of_definition(origin.callee) or draft.location
        refusal = bind_error_of(self.head.trace.outcome.failure)
        if refusal is not None and not self.base.failed:
            self._name_unbound_keyword(draft, source, origin, refusal)

    def _name_unbound_keyword(
        self, draft: CauseBuilder, source: Difference, origin: Call | None, refusal: BindError
    ) -> None:
        """Name the keyword when a call that is not recorded did not bind."""
        name = next((name for name in (*refusal.missing, refusal.unexpected) if name), "")
        if not name:
            return
        consumer = self._call_with_argument(origin, name)
        draft.add_consequences([source])
        draft.kind = Kind.ARGUMENT_DROPPED if refusal.missing else Kind.PARAMETER_REMOVED
        draft.parameter = name
        draft.where = f"{refusal.function}.{name}"
        draft.callee = refusal.function if consumer is None else consumer.callee
        draft.before = None if consumer is None else argument_values(consumer)[name]
        draft.after = None
        draft.path = tuple(dict.fromkeys([refusal.function, draft.callee]))
        draft.message = f"{describe_failure(self.head.trace.outcome.failure)}."

    def _call_with_argument(self, origin: Call | None, name: str) -> Call | None:
        """Return the deepest call, best a constructor, that got an argument in the base."""
        pair = None if origin is None else self.chains.pairing.by_head_call.get(origin.call)
        calls = [] if pair is None else [pair.base, *self.base.nested(pair.base.call)]
        return max(
            (call for call in calls if name in argument_values(call)),
            key=lambda call: (call.role == "constructor", self.base.depth(call.call)),
            default=None,
        )

    def _locate(self, draft: CauseBuilder, location: Location | None) -> None:
        draft.location = location
        draft.callee = self.locations.function_at(location)
        calls = self.head.calls or self.base.calls
        draft.builder = responsible_builder(
            (), [call.callee for call in calls if call.role == "builder"]
        )

    def _call(self, source: Difference) -> Call | None:
        if source.head_call:
            return self.head.call(source.head_call)
        return self.base.call(source.base_call) if source.base_call else None


def _repeats(member: ArgumentChange, root: ArgumentChange) -> bool:
    """Tell whether a member is the root once more: the same line, run again."""
    return member.kind is root.kind and _callees(member.pair) == _callees(root.pair)


def _callees(pair: CallPair) -> Sequence[str]:
    return (pair.head.callee, pair.head.parent.partition("#")[0])
