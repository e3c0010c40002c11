"""Walks the calls of both sides in order and decides which differences are causes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from traces.diff.arguments import ArgumentChange
from traces.diff.chains import Chains
from traces.diff.differences import Difference, Layer
from traces.diff.drafts import SIGNATURE_KINDS, Draft, as_difference, draft_of, marks
from traces.diff.ledger import Ledger, crossed
from traces.diff.pairing import Pairing
from traces.diff.places import Places
from traces.diff.side import Side, made_label
from traces.diff.structure import Lone, Structure
from traces.diff.structure import as_difference as as_structural
from traces.diff.values import Pair, References, references_in, same
from traces.model import Call
from traces.verdict import Kind, Level


@dataclass(slots=True, kw_only=True)
class Assembly:
    """The walk and what it leaves open.

    Attributes:
        disturbed: steps in or before which the events differ in a way that can change which
            operations are called.
        later: differences of operations that wait for an explanation among the events.
        truncated: calls that one side never came to.
    """

    base: Side
    head: Side
    pairing: Pairing
    chains: Chains
    places: Places
    ledger: Ledger
    disturbed: frozenset[str]
    later: list[Difference] = field(default_factory=list)
    truncated: list[Difference] = field(default_factory=list)

    def walk(self) -> None:
        """Visit every difference of the calls, most upstream first."""
        structure = Structure(base=self.base, head=self.head, pairing=self.pairing)
        lone_calls = structure.lone_calls()
        # What was never reached lies downstream of the buffers that were built.
        self.truncated += [
            as_structural(lone, layer=Layer.OPERATIONS) for lone in lone_calls if lone.truncated
        ]
        groups = structure.groups([lone for lone in lone_calls if not lone.truncated])
        visits: list[tuple[int, Pair | list[Lone]]] = [
            *((self._place(group), group) for group in groups),
            *((self._position(pair), pair) for pair in self.pairing.pairs),
        ]
        for _, visited in sorted(visits, key=lambda item: item[0]):
            if isinstance(visited, Pair):
                self._visit_pair(visited)
            else:
                self._visit_group(visited)

    def _place(self, group: Sequence[Lone]) -> int:
        """Return when to visit a group: after the argument it was made for, if that is gone too."""
        wanted = self._wanted_for(group)
        return group[0].position if wanted is None else self._position(wanted.pair) + 1

    def _wanted_for(self, group: Sequence[Lone]) -> ArgumentChange | None:
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

    def _visit_pair(self, pair: Pair) -> None:
        changes = self.chains.changes[pair.head.call]
        done: set[ArgumentChange] = set()
        for change in changes:
            if change in done:
                continue
            draft = self._attribute(change)
            other = _swapped_with(change, changes, self.pairing.references)
            fault = draft is not None and draft.parameter == change.parameter
            if other is not None and draft is not None and fault:
                draft.explain([self._difference(other)])
                draft.message = f"{change.parameter} and {other.parameter} are swapped"
                self.ledger.belongs(other, draft)
                done.add(other)
        self.ledger.pass_on(pair, changes)

    def _attribute(self, change: ArgumentChange) -> Draft | None:
        """Make a difference part of a cause, a consequence, or a cause; None for later."""
        above = self.ledger.of_change(self.chains.source(change))
        if above is not None:
            self.ledger.join(change, above)
            return above
        if self._is_late(change):
            self.later.append(self._difference(change))
            return None
        explained = self._explanation(change) if change.effective else None
        if explained is not None:
            explained.explain([self._difference(change)])
            self.ledger.belongs(change, explained)
            return explained
        location = self.places.of_argument(change)
        return self.ledger.root(change, location=location, position=self._position(change.pair))

    def _is_late(self, change: ArgumentChange) -> bool:
        """Tell whether an operation's argument may have been decided by the events before it."""
        if self._layer(change.pair.head, self.head) is Layer.ASSEMBLY or not change.effective:
            return False
        return change.pair.head.step in self.disturbed

    def _explanation(self, change: ArgumentChange) -> Draft | None:
        """Return the cause that a difference follows from although it is not the same argument.

        A keyword that a call site no longer passes is an edit, and never follows from another; a
        value that differs may, unless the enclosing call still has it as it was.
        """
        pair = change.pair
        if self._layer(pair.head, self.head) is Layer.OPERATIONS:
            return self.ledger.nearest()
        if not change.mere_value or self.chains.not_passed_on(change):
            return None
        explained = (
            self.ledger.around(base=pair.base, head=pair.head)
            or self.ledger.by_object(base=pair.base, head=pair.head)
            or self.ledger.alike(change)
            or self.ledger.configuration()
        )
        if explained is not None and not self._can_reach(explained, change):
            return None
        # The scenario's own calls are not under guard: it works with what it got before.
        return explained or (None if pair.head.parent else self.ledger.nearest())

    def _can_reach(self, draft: Draft, change: ArgumentChange) -> bool:
        """Tell whether a cause can explain another argument's value.

        A parameter that came or went between builders explains the value it carried, not what a
        builder works out by itself.
        """
        if draft.kind not in SIGNATURE_KINDS or draft.level is Level.BEHAVIOUR:
            return True
        return same(change.before, draft.before, self.pairing.references)

    def _visit_group(self, group: Sequence[Lone]) -> None:
        leader = next((lone for lone in group if not lone.is_builder), group[0])
        layer = self._layer_of(leader)
        differences = [as_structural(lone, layer=layer) for lone in group]
        draft = self.ledger.of_change(self._wanted_for(group))
        if draft is None and not leader.is_builder:
            draft = self._group_explanation(leader, layer)
        if draft is None and layer is Layer.OPERATIONS and leader.call.step in self.disturbed:
            self.later += differences
            return
        if draft is None:
            draft = self._group_root(leader, differences)
        else:
            draft.explain(differences)
        for lone in group if draft.capable else ():
            self.ledger.pass_on_lone(lone, draft)

    def _group_explanation(self, leader: Lone, layer: Layer) -> Draft | None:
        base, head = (leader.call, None) if leader.removed else (None, leader.call)
        explained = self.ledger.around(base=base, head=head)
        explained = explained or self.ledger.by_object(base=base, head=head)
        if layer is Layer.OPERATIONS:
            explained = explained or self.ledger.nearest()
        return explained or self.ledger.configuration()

    def _group_root(self, leader: Lone, differences: Iterable[Difference]) -> Draft:
        own = as_structural(leader, layer=Layer.ASSEMBLY)
        draft = draft_of(own)
        draft.callee = leader.call.callee
        if leader.removed and leader.enclosing is not None:
            draft.location = self.places.of_definition(leader.enclosing.head.callee)
        draft.location = draft.location or self.places.of_call(
            base_call=own.base_call, head_call=own.head_call
        )
        for found in differences:
            calls = marks(base_call=found.base_call, head_call=found.head_call)
            if not calls <= draft.calls:
                draft.explain([found])
            draft.calls |= calls
        self.ledger.drafts.append(draft)
        return draft

    def _difference(self, change: ArgumentChange) -> Difference:
        layer = self._layer(change.pair.head, self.head)
        return as_difference(change, position=self._position(change.pair), layer=layer)

    def _position(self, pair: Pair) -> int:
        return 2 * self.head.positions[pair.head.call] + 1

    def _layer_of(self, lone: Lone) -> Layer:
        return self._layer(lone.call, self.base if lone.removed else self.head)

    @staticmethod
    def _layer(call: Call, side: Side) -> Layer:
        """Return the layer of a call: an operation that builds a stack belongs to the assembly."""
        if call.role != "operation":
            return Layer.ASSEMBLY
        builds = any(inner.role != "operation" for inner in side.nested(call.call))
        return Layer.ASSEMBLY if builds else Layer.OPERATIONS


def _swapped_with(
    change: ArgumentChange, changes: Iterable[ArgumentChange], references: References
) -> ArgumentChange | None:
    """Return the argument of the same call that got this one's value and gave it its own."""
    for other in changes:
        values = change.mere_value and other.mere_value
        if other is not change and values and crossed(change, other, references):
            return other
    return None
