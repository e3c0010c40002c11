"""Search for the causes among the differences of calls and arguments, in call order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from traces.diff.attribute.lineage import ArgumentChains
from traces.diff.compare.calls import UnmatchedCall, group_calls, unmatched_calls
from traces.diff.differences import (
    GIVEN_KINDS,
    SIGNATURE_KINDS,
    TAKEN_KINDS,
    ArgumentChange,
    Difference,
    DiffLayer,
    side_labels,
)
from traces.diff.index import RecordingIndex, argument_values, last_name, made_label
from traces.diff.locations import LocationFinder
from traces.diff.pairing import CallPairing
from traces.diff.values import IDENTICAL, CallPair, ReferenceMap, references_in, same_value
from traces.schema.model import Call, Location
from traces.schema.verdict import Level

_Key = tuple[object, ...]


@dataclass(slots=True, kw_only=True)
class CauseIndex:
    """Causes in order, with lookups from calls and objects to the cause that changed them."""

    pairing: CallPairing
    causes: list[Difference] = field(default_factory=list)
    _by_change: dict[ArgumentChange, Difference] = field(default_factory=dict)
    _by_root: dict[_Key, Difference] = field(default_factory=dict)
    _by_call: dict[str, Difference] = field(default_factory=dict)
    _by_object: dict[str, Difference] = field(default_factory=dict)

    def by_change(self, change: ArgumentChange | None) -> Difference | None:
        """Return the cause a difference belongs to."""
        return None if change is None else self._by_change.get(change)

    def assign(self, change: ArgumentChange, cause: Difference) -> None:
        """Note that a difference belongs to a cause, as root, member or consequence."""
        self._by_change[change] = cause

    def join(self, change: ArgumentChange, cause: Difference) -> None:
        """Make a difference a member of a cause: the same argument, handed down."""
        cause.members.append(change)
        cause.level = Level.worst((cause.level, change.level))
        cause.calls |= side_labels(change.pair.base.call, change.pair.head.call)
        self.assign(change, cause)

    def root(self, change: ArgumentChange, location: Location | None, position: int) -> Difference:
        """Make a difference a cause, or count it with the one that has the same line."""
        caller = change.pair.head.caller
        key = (change.kind, change.parameter, location, change.pair.head.callee, caller)
        cause = self._by_root.get(key)
        if cause is None:
            cause = Difference.of_argument(change, position=position, layer=DiffLayer.ASSEMBLY)
            cause.argument, cause.can_explain = change, change.effective
            cause.location = location
            self._by_root[key] = cause
            self.causes.append(cause)
        else:
            cause.count += 1
            if change.effective and not cause.can_explain:
                # On the same line, one that matters is shown rather than one that does not.
                cause.argument, cause.can_explain = change, True
                cause.before, cause.after = change.before, change.after
        self.join(change, cause)
        return cause

    def by_context(self, *, base: Call | None, head: Call | None) -> Difference | None:
        """Return the cause that changed the nearest enclosing call, else an object a call gets."""
        above = self.by_enclosing_call(base=base, head=head)
        return above or self.by_argument_object(base=base, head=head)

    def by_enclosing_call(self, *, base: Call | None, head: Call | None) -> Difference | None:
        """Return the cause that changed the nearest enclosing call, of the head if possible."""
        labels = (
            f"{mark} {above.call}"
            for mark, side, call in self._both(base, head)
            for above in side.ancestors(call.call)
        )
        return _first(self._by_call, labels)

    def by_argument_object(self, *, base: Call | None, head: Call | None) -> Difference | None:
        """Return the cause that changed an object which a call gets."""
        labels = (
            f"{mark} {label}"
            for mark, _, call in self._both(base, head)
            for label in references_in(list(argument_values(call).values()))
        )
        return _first(self._by_object, labels)

    def by_made_object(self, *, base: Call | None, head: Call | None) -> Difference | None:
        """Return the cause that changed an object from which a constructor made its own."""
        labels = (f"{mark} {made_label(call)}" for mark, _, call in self._both(base, head))
        return _first(self._by_object, labels)

    def with_same_values(self, change: ArgumentChange) -> Difference | None:
        """Return an earlier cause with the same parameter and values: one source feeds both.

        Two calls that got each other's values are one cause too.
        """
        for cause in self.causes:
            root = cause.argument
            if root is None or not root.value_only:
                continue
            swapped = _values_swapped(root, change, self.pairing.references)
            named = last_name(root.parameter) == last_name(change.parameter)
            if named and (swapped or root.has_values_of(change, IDENTICAL)):
                return cause
        return None

    def configuration(self) -> Difference | None:
        """Return the cause that the scenario itself has another configuration."""
        return next((cause for cause in self.causes if cause.callee == "scenario"), None)

    def latest_capable(self) -> Difference | None:
        """Return the latest cause that can explain behaviour."""
        return next((cause for cause in reversed(self.causes) if cause.can_explain), None)

    def mark_dependents(self, pair: CallPair, changes: Sequence[ArgumentChange]) -> None:
        """Note what depends on a cause after a call: the calls inside, the object it made."""
        held = [cause for one in changes if (cause := self.by_change(one)) and cause.can_explain]
        for mark in side_labels(pair.base.call, pair.head.call) if held else ():
            self._by_call[mark] = held[0]
        cause = held[0] if held else self.by_argument_object(base=None, head=pair.head)
        if cause is not None:
            for mark in side_labels(made_label(pair.base), made_label(pair.head)):
                self._by_object.setdefault(mark, cause)

    def mark_dependents_of_unmatched(self, unmatched: UnmatchedCall, cause: Difference) -> None:
        """Note what depends on a call that only one side has."""
        mark = "base" if unmatched.removed else "head"
        self._by_call[f"{mark} {unmatched.call.call}"] = cause
        if made := made_label(unmatched.call):
            self._by_object[f"{mark} {made}"] = cause

    def _both(
        self, base: Call | None, head: Call | None
    ) -> Iterator[tuple[str, RecordingIndex, Call]]:
        if head is not None:
            yield "head", self.pairing.head, head
        if base is not None:
            yield "base", self.pairing.base, base


@dataclass(slots=True, kw_only=True)
class CauseFinder:
    """The walk over the calls, and the differences it leaves open.

    Attributes:
        changed_steps: steps in or before which the events differ in a way that can change which
            operations are called.
        deferred: differences of operations that wait for an explanation among the events.
        truncated: calls that one side never came to.
    """

    pairing: CallPairing
    chains: ArgumentChains
    locations: LocationFinder
    cause_index: CauseIndex
    changed_steps: frozenset[str]
    deferred: list[Difference] = field(default_factory=list)
    truncated: list[Difference] = field(default_factory=list)

    def walk(self) -> None:
        """Visit every difference of the calls, most upstream first."""
        unmatched = unmatched_calls(self.pairing)
        # What was never reached lies downstream of the buffers that were built.
        cut = [one for one in unmatched if one.truncated]
        self.truncated += [one.difference(DiffLayer.OPERATIONS) for one in cut]
        groups = group_calls(self.pairing, [one for one in unmatched if not one.truncated])
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
        made = {(one.removed, label) for one in group if (label := made_label(one.call))}
        for changes in self.chains.changes.values() if made else ():
            for change in changes:
                taken = change.kind in TAKEN_KINDS
                value = change.before if taken else change.after
                labels = {(taken, label) for label in references_in(value)}
                if change.kind in (*TAKEN_KINDS, *GIVEN_KINDS) and made & labels:
                    return change
        return None

    def _visit_pair(self, pair: CallPair) -> None:
        changes = self.chains.changes[pair.head.call]
        done: set[ArgumentChange] = set()
        for change in changes:
            if change in done:
                continue
            cause = self._attribute(change)
            other = _swapped_with(change, changes, self.pairing.references)
            fault = cause is not None and cause.parameter == change.parameter
            if other is not None and cause is not None and fault:
                cause.add_consequences([self._difference(other)])
                cause.swapped_with = other.parameter
                self.cause_index.assign(other, cause)
                done.add(other)
        self.cause_index.mark_dependents(pair, changes)

    def _attribute(self, change: ArgumentChange) -> Difference | None:
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
        return self.cause_index.root(change, location, self._position(change.pair))

    def _is_deferred(self, change: ArgumentChange) -> bool:
        """Return whether an operation's argument may have been decided by the events before it."""
        late = self._layer(change.pair.head, self.pairing.head) is DiffLayer.OPERATIONS
        return late and change.effective and change.pair.head.step in self.changed_steps

    def _explanation(self, change: ArgumentChange) -> Difference | None:
        """Return the cause that a difference follows from although it is not the same argument.

        A keyword that a call site no longer passes is an edit, and never follows from another; a
        value that differs may, unless the enclosing call still has it as it was.
        """
        pair = change.pair
        if self._layer(pair.head, self.pairing.head) is DiffLayer.OPERATIONS:
            return self.cause_index.latest_capable()
        if not change.value_only or self.chains.is_unchanged_above(change):
            return None
        explained = (
            self.cause_index.by_context(base=pair.base, head=pair.head)
            or self.cause_index.with_same_values(change)
            or self.cause_index.configuration()
        )
        if explained is not None and not self._can_reach(explained, change):
            return None
        # The scenario's own calls are not under guard: it works with what it got before.
        return explained or (None if pair.head.parent else self.cause_index.latest_capable())

    def _can_reach(self, cause: Difference, change: ArgumentChange) -> bool:
        """Return whether a cause can explain another argument's value.

        A parameter that came or went between builders explains the value it carried, not what a
        builder works out by itself.
        """
        if cause.kind not in SIGNATURE_KINDS or cause.level is Level.BEHAVIOUR:
            return True
        return same_value(change.before, cause.before, self.pairing.references)

    def _visit_group(self, group: Sequence[UnmatchedCall]) -> None:
        leader = next((one for one in group if not one.is_builder), group[0])
        layer = self._layer(leader.call, self.pairing.side(in_head=not leader.removed))
        differences = [one.difference(layer) for one in group]
        cause = self.cause_index.by_change(self._argument_made_for(group))
        if cause is None and not leader.is_builder:
            cause = self._group_explanation(leader, layer)
        late = layer is DiffLayer.OPERATIONS and leader.call.step in self.changed_steps
        if cause is None and late:
            self.deferred += differences
            return
        if cause is None:
            cause = self._group_root(leader, differences)
        else:
            cause.add_consequences(differences)
        for one in group if cause.can_explain else ():
            self.cause_index.mark_dependents_of_unmatched(one, cause)

    def _group_explanation(self, leader: UnmatchedCall, layer: DiffLayer) -> Difference | None:
        base, head = (leader.call, None) if leader.removed else (None, leader.call)
        explained = self.cause_index.by_context(base=base, head=head)
        if layer is DiffLayer.OPERATIONS:
            explained = explained or self.cause_index.latest_capable()
        return explained or self.cause_index.configuration()

    def _group_root(self, leader: UnmatchedCall, differences: Iterable[Difference]) -> Difference:
        cause = leader.difference(DiffLayer.ASSEMBLY)
        if leader.removed and leader.enclosing is not None:
            cause.location = self.locations.of_definition(leader.enclosing.head.callee)
        cause.location = cause.location or self.locations.of_call(cause)
        for found in differences:
            if not found.calls <= cause.calls:
                cause.add_consequences([found])
            cause.calls |= found.calls
        self.cause_index.causes.append(cause)
        return cause

    def _difference(self, change: ArgumentChange) -> Difference:
        layer = self._layer(change.pair.head, self.pairing.head)
        return Difference.of_argument(change, self._position(change.pair), layer)

    def _position(self, pair: CallPair) -> int:
        return 2 * self.pairing.head.positions[pair.head.call] + 1

    @staticmethod
    def _layer(call: Call, side: RecordingIndex) -> DiffLayer:
        """Return the layer of a call: an operation that builds a stack belongs to the assembly."""
        if call.role != "operation":
            return DiffLayer.ASSEMBLY
        builds = any(inner.role != "operation" for inner in side.nested(call.call))
        return DiffLayer.ASSEMBLY if builds else DiffLayer.OPERATIONS


def _first(causes: Mapping[str, Difference], labels: Iterable[str]) -> Difference | None:
    return next((causes[label] for label in labels if label in causes), None)


def _values_swapped(one: ArgumentChange, other: ArgumentChange, references: ReferenceMap) -> bool:
    both = ((one.before, other.after), (other.before, one.after))
    return all(same_value(before, after, references) for before, after in both)


def _swapped_with(
    change: ArgumentChange, changes: Iterable[ArgumentChange], references: ReferenceMap
) -> ArgumentChange | None:
    """Return the argument of the same call that got this one's value and gave it its own."""
    others = (one for one in changes if one is not change and one.value_only and change.value_only)
    return next((one for one in others if _values_swapped(change, one, references)), None)
