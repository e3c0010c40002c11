"""Walks the calls of both sides in order and decides which differences are causes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from traces.diff.attribute.cause_builder import (
    SIGNATURE_KINDS,
    CauseBuilder,
    argument_difference,
    cause_from_difference,
    side_labels,
)
from traces.diff.attribute.cause_index import CauseIndex, values_swapped
from traces.diff.attribute.chains import ArgumentChains
from traces.diff.compare.arguments import ArgumentChange
from traces.diff.compare.structure import UnmatchedCall, UnmatchedCalls
from traces.diff.compare.structure import unmatched_difference as as_structural
from traces.diff.differences import Difference, DiffLayer
from traces.diff.index import RecordingIndex, made_label
from traces.diff.locations import LocationFinder
from traces.diff.pairing import CallPairing
from traces.diff.values import CallPair, ReferenceMap, references_in, same_value
from traces.schema.model import Call
from traces.schema.verdict import Kind, Level


@dataclass(slots=True, kw_only=True)
class CauseFinder:
    """The walk and what it leaves open.

    Attributes:
        disturbed: steps in or before which the events differ in a way that can change which
            operations are called.
        later: differences of operations that wait for an explanation among the events.
        truncated: calls that one side never came to.
    """

    base: RecordingIndex
    head: RecordingIndex
    pairing: CallPairing
    chains: ArgumentChains
    locations: LocationFinder
    cause_index: CauseIndex
    changed_steps: frozenset[str]
    deferred: list[Difference] = field(default_factory=list)
    truncated: list[Difference] = field(default_factory=list)

    def walk(self) -> None:
        """Visit every difference of the calls, most upstream first."""
        structure = UnmatchedCalls(base=self.base, head=self.head, pairing=self.pairing)
        lone_calls = structure.unmatched_calls()
        # What was never reached lies downstream of the buffers that were built.
        self.truncated += [
            as_structural(lone, layer=DiffLayer.OPERATIONS) for lone in lone_calls if lone.truncated
        ]
        groups = structure.groups([lone for lone in lone_calls if not lone.truncated])
        visits: list[tuple[int, CallPair | list[UnmatchedCall]]] = [
            *((self._visit_position(group), group) for group in groups),
            *((self._position(pair), pair) for pair in self.pairing.pairs),
        ]
        for _, visited in sorted(visits, key=lambda item: item[0]):
            if isinstance(visited, CallPair):
                self._visit_pair(visited)
            else:
                self._visit_group(visited)

    def _visit_position(self, group: Sequence[UnmatchedCall]) -> int:
        """Return when to visit a group: after the argument it was made for, if that is gone too."""
        wanted = self._argument_made_for(group)
        return group[0].position if wanted is None else self._position(wanted.pair) + 1

    def _argument_made_for(self, group: Sequence[UnmatchedCall]) -> ArgumentChange | None:
        """Return the dropped (or new) argument whose value is an object that the group made."""
        made = {(lone.removed, label) for lone in group if (label := made_label(lone.call))}
        for changes in self.chains.changes.values() if made else ():
            for change in changes:
                taken = change.kind in (Kind.ARGUMENT_DROPPED, Kind.PARAMETER_REMOVED)
                new = change.kind in (Kind.ARGUMENT_ADDED, Kind.PARAMETER_ADDED)
                value = change.before if taken else change.after
                if (taken or new) and made & {(taken, label) for label in references_in(value)}:
                    return change
        return None

    def _visit_pair(self, pair: CallPair) -> None:
        changes = self.chains.changes[pair.head.call]
        done: set[ArgumentChange] = set()
        for change in changes:
            if change in done:
                continue
            draft = self._attribute(change)
            other = _swapped_with(change, changes, self.pairing.references)
            fault = draft is not None and draft.parameter == change.parameter
            if other is not None and draft is not None and fault:
                draft.add_consequences([self._difference(other)])
                draft.message = f"{change.parameter} and {other.parameter} are swapped"
                self.cause_index.assign(other, draft)
                done.add(other)
        self.cause_index.mark_dependents(pair, changes)

    def _attribute(self, change: ArgumentChange) -> CauseBuilder | None:
        """Make a difference part of a cause, a consequence, or a cause; None for later."""
        above = self.cause_index.by_change(self.chains.source(change))
        if above is not None:
            self.cause_index.join(change, above)
            return above
        if self._is_deferred(change):
            self.deferred.append(self._difference(change))
            return None
        explained = self._explanation(change) if change.effective else None
        if explained is not None:
            explained.add_consequences([self._difference(change)])
            self.cause_index.assign(change, explained)
            return explained
        location = self.locations.of_argument(change)
        return self.cause_index.root(
            change, location=location, position=self._position(change.pair)
        )

    def _is_deferred(self, change: ArgumentChange) -> bool:
        """Tell whether an operation's argument may have been decided by the events before it."""
        if self._layer(change.pair.head, self.head) is DiffLayer.ASSEMBLY or not change.effective:
            return False
        return change.pair.head.step in self.changed_steps

    def _explanation(self, change: ArgumentChange) -> CauseBuilder | None:
        """Return the cause that a difference follows from although it is not the same argument.

        A keyword that a call site no longer passes is an edit, and never follows from another; a
        value that differs may, unless the enclosing call still has it as it was.
        """
        pair = change.pair
        if self._layer(pair.head, self.head) is DiffLayer.OPERATIONS:
            return self.cause_index.latest_capable()
        if not change.value_only or self.chains.is_unchanged_above(change):
            return None
        explained = (
            self.cause_index.by_enclosing_call(base=pair.base, head=pair.head)
            or self.cause_index.by_argument_object(base=pair.base, head=pair.head)
            or self.cause_index.with_same_values(change)
            or self.cause_index.configuration()
        )
        if explained is not None and not self._can_reach(explained, change):
            return None
        # The scenario's own calls are not under guard: it works with what it got before.
        return explained or (None if pair.head.parent else self.cause_index.latest_capable())

    def _can_reach(self, draft: CauseBuilder, change: ArgumentChange) -> bool:
        """Tell whether a cause can explain another argument's value.

        A parameter that came or went between builders explains the value it carried, not what a
        builder works out by itself.
        """
        if draft.kind not in SIGNATURE_KINDS or draft.level is Level.BEHAVIOUR:
            return True
        return same_value(change.before, draft.before, self.pairing.references)

    def _visit_group(self, group: Sequence[UnmatchedCall]) -> None:
        leader = next((lone for lone in group if not lone.is_builder), group[0])
        layer = self._layer_of(leader)
        differences = [as_structural(lone, layer=layer) for lone in group]
        draft = self.cause_index.by_change(self._argument_made_for(group))
        if draft is None and not leader.is_builder:
            draft = self._group_explanation(leader, layer)
        if (
            draft is None
            and layer is DiffLayer.OPERATIONS
            and leader.call.step in self.changed_steps
        ):
            self.deferred += differences
            return
        if draft is None:
            draft = self._group_root(leader, differences)
        else:
            draft.add_consequences(differences)
        for lone in group if draft.can_explain else ():
            self.cause_index.mark_dependents_of_unmatched(lone, draft)

    def _group_explanation(self, leader: UnmatchedCall, layer: DiffLayer) -> CauseBuilder | None:
        base, head = (leader.call, None) if leader.removed else (None, leader.call)
        explained = self.cause_index.by_enclosing_call(base=base, head=head)
        explained = explained or self.cause_index.by_argument_object(base=base, head=head)
        if layer is DiffLayer.OPERATIONS:
            explained = explained or self.cause_index.latest_capable()
        return explained or self.cause_index.configuration()

    def _group_root(self, leader: UnmatchedCall, differences: Iterable[Difference]) -> CauseBuilder:
        own = as_structural(leader, layer=DiffLayer.ASSEMBLY)
        draft = cause_from_difference(own)
        draft.callee = leader.call.callee
        if leader.removed and leader.enclosing is not None:
            draft.location = self.locations.of_definition(leader.enclosing.head.callee)
        draft.location = draft.location or self.locations.of_call(
            base_call=own.base_call, head_call=own.head_call
        )
        for found in differences:
            calls = side_labels(base_call=found.base_call, head_call=found.head_call)
            if not calls <= draft.calls:
                draft.add_consequences([found])
            draft.calls |= calls
        self.cause_index.cause_builders.append(draft)
        return draft

    def _difference(self, change: ArgumentChange) -> Difference:
        layer = self._layer(change.pair.head, self.head)
        return argument_difference(change, position=self._position(change.pair), layer=layer)

    def _position(self, pair: CallPair) -> int:
        return 2 * self.head.positions[pair.head.call] + 1

    def _layer_of(self, lone: UnmatchedCall) -> DiffLayer:
        return self._layer(lone.call, self.base if lone.removed else self.head)

    @staticmethod
    def _layer(call: Call, side: RecordingIndex) -> DiffLayer:
        """Return the layer of a call: an operation that builds a stack belongs to the assembly."""
        if call.role != "operation":
            return DiffLayer.ASSEMBLY
        builds = any(inner.role != "operation" for inner in side.nested(call.call))
        return DiffLayer.ASSEMBLY if builds else DiffLayer.OPERATIONS


def _swapped_with(
    change: ArgumentChange, changes: Iterable[ArgumentChange], references: ReferenceMap
) -> ArgumentChange | None:
    """Return the argument of the same call that got this one's value and gave it its own."""
    for other in changes:
        values = change.value_only and other.value_only
        if other is not change and values and values_swapped(change, other, references):
            return other
    return None
