"""Turns drafts into causes: names the builder, the consumer and the line."""

from collections.abc import Sequence
from dataclasses import dataclass

from traces.diff.arguments import ArgumentChange
from traces.diff.chains import Chains, responsible_builder
from traces.diff.differences import Difference, Layer, consequences
from traces.diff.drafts import Draft, as_difference
from traces.diff.places import Places
from traces.diff.refusals import Refusal, refusal_of
from traces.diff.results import described
from traces.diff.side import Side, argument_values
from traces.diff.values import Pair, same
from traces.diff.wording import of_argument, of_difference
from traces.model import Call
from traces.verdict import Cause, Kind, Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Finisher:
    """Completes drafts of one scenario."""

    base: Side
    head: Side
    chains: Chains
    places: Places
    scenario: str

    def cause(self, draft: Draft) -> Cause:
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
            consequences=consequences(draft.found),
            where=draft.where,
            path=draft.path,
            variants=(),
            count=draft.count,
            message=draft.message,
            rank=draft.rank,
        )

    def _complete_argument(self, draft: Draft, root: ArgumentChange) -> None:
        consumer = self.chains.consumer(root, draft.members)
        path = self.chains.path(root, consumer)
        enclosing = list(self.head.ancestors(root.pair.head.call))
        draft.callee = consumer.callee
        draft.path = tuple(call.callee for call in path)
        draft.builder = responsible_builder(enclosing, draft.path)
        draft.message = of_argument(root, consumer, enclosing, swapped=draft.message)
        for member in draft.members:
            handed_down = member.pair.head in path and self._same_values(member, root)
            if member is not root and not handed_down and not _repeats(member, root):
                position = 2 * self.head.positions[member.pair.head.call] + 1
                layer = Layer.ASSEMBLY
                draft.explain([as_difference(member, position=position, layer=layer)])

    def _same_values(self, member: ArgumentChange, root: ArgumentChange) -> bool:
        references = self.chains.pairing.references
        return same(member.before, root.before, references) and same(
            member.after, root.after, references
        )

    def _complete_difference(self, draft: Draft, source: Difference) -> None:
        place = {
            Layer.ASSEMBLY: self._in_call,
            Layer.TENSORS: self._in_constructor,
            Layer.EVENTS: self._in_event,
            Layer.OPERATIONS: self._in_operation,
            Layer.DIGESTS: self._in_content,
            Layer.OUTCOME: self._in_ending,
        }[source.layer]
        place(draft, source)
        draft.message = draft.message or of_difference(source, draft.callee)

    def _in_call(self, draft: Draft, source: Difference) -> None:
        call = self._call(source)
        side = self.head if source.head_call else self.base
        if call is None:
            return
        draft.callee = call.callee
        draft.path = (call.callee,)
        draft.builder = responsible_builder(list(side.ancestors(call.call)), draft.path)
        draft.location = draft.location or self.places.of_call(
            base_call=source.base_call, head_call=source.head_call
        )
        named = source.kind.startswith(("argument", "parameter"))
        if named and source.where.startswith(f"{call.callee}."):
            draft.parameter = source.where.removeprefix(f"{call.callee}.")

    def _in_operation(self, draft: Draft, source: Difference) -> None:
        self._in_call(draft, source)
        if source.kind is Kind.OUTCOME_CHANGED and draft.callee is not None:
            draft.location = self.places.of_definition(draft.callee) or draft.location

    def _in_constructor(self, draft: Draft, source: Difference) -> None:
        self._in_call(draft, source)
        if draft.callee is not None:
            draft.location = self.places.of_definition(draft.callee) or draft.location

    def _in_event(self, draft: Draft, source: Difference) -> None:
        self._at(draft, self.places.of_event(source))

    def _in_content(self, draft: Draft, source: Difference) -> None:
        self._at(draft, self.places.of_content(source))

    def _in_ending(self, draft: Draft, source: Difference) -> None:
        line = self.head.failure_line()
        origin = self._call(source)
        if origin is None:
            self._at(draft, line or self.places.of_the_end())
        else:
            self._in_call(draft, source)
            draft.location = line or self.places.of_definition(origin.callee) or draft.location
        refusal = refusal_of(self.head.trace.outcome.failure)
        if refusal is not None and not self.base.failed:
            self._refused(draft, source, origin, refusal)

    def _refused(
        self, draft: Draft, source: Difference, origin: Call | None, refusal: Refusal
    ) -> None:
        """Name the keyword when a call that is not recorded did not bind."""
        name = next((name for name in (*refusal.missing, refusal.unexpected) if name), "")
        if not name:
            return
        consumer = self._getting(origin, name)
        draft.explain([source])
        draft.kind = Kind.ARGUMENT_DROPPED if refusal.missing else Kind.PARAMETER_REMOVED
        draft.parameter = name
        draft.where = f"{refusal.function}.{name}"
        draft.callee = refusal.function if consumer is None else consumer.callee
        draft.before = None if consumer is None else argument_values(consumer)[name]
        draft.after = None
        draft.path = tuple(dict.fromkeys([refusal.function, draft.callee]))
        draft.message = f"{described(self.head.trace.outcome.failure)}."

    def _getting(self, origin: Call | None, name: str) -> Call | None:
        """Return the deepest call, best a constructor, that got an argument in the base."""
        pair = None if origin is None else self.chains.pairing.of_head.get(origin.call)
        calls = [] if pair is None else [pair.base, *self.base.nested(pair.base.call)]
        return max(
            (call for call in calls if name in argument_values(call)),
            key=lambda call: (call.role == "constructor", self.base.depth(call.call)),
            default=None,
        )

    def _at(self, draft: Draft, location: Location | None) -> None:
        draft.location = location
        draft.callee = self.places.function_at(location)
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


def _callees(pair: Pair) -> Sequence[str]:
    return (pair.head.callee, pair.head.parent.partition("#")[0])
