"""The causes found so far, and what depends on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from traces.diff.attribute.cause_builder import CauseBuilder, side_labels
from traces.diff.compare.arguments import ArgumentChange
from traces.diff.compare.structure import UnmatchedCall
from traces.diff.differences import DiffLayer
from traces.diff.index import RecordingIndex, argument_values, last_name, made_label
from traces.diff.values import IDENTICAL, CallPair, ReferenceMap, references_in, same_value
from traces.schema.model import Call, Location

_Key = tuple[object, ...]


@dataclass(slots=True, kw_only=True)
class CauseIndex:
    """Causes in order, with lookups from calls and objects to the cause that changed them."""

    base: RecordingIndex
    head: RecordingIndex
    references: ReferenceMap
    cause_builders: list[CauseBuilder]
    _by_change: dict[ArgumentChange, CauseBuilder] = field(default_factory=dict)
    _by_root: dict[_Key, CauseBuilder] = field(default_factory=dict)
    _by_call: dict[str, CauseBuilder] = field(default_factory=dict)
    _by_object: dict[str, CauseBuilder] = field(default_factory=dict)

    def by_change(self, change: ArgumentChange | None) -> CauseBuilder | None:
        """Return the cause a difference belongs to."""
        return None if change is None else self._by_change.get(change)

    def assign(self, change: ArgumentChange, draft: CauseBuilder) -> None:
        """Note that a difference belongs to a cause, as root, member or consequence."""
        self._by_change[change] = draft

    def join(self, change: ArgumentChange, draft: CauseBuilder) -> None:
        """Make a difference a member of a cause: the same argument, handed down."""
        draft.members.append(change)
        draft.raise_level(change.level)
        draft.calls |= side_labels(base_call=change.pair.base.call, head_call=change.pair.head.call)
        self.assign(change, draft)

    def root(
        self, change: ArgumentChange, *, location: Location | None, position: int
    ) -> CauseBuilder:
        """Make a difference a cause, or count it with the one that has the same line."""
        caller = change.pair.head.parent.partition("#")[0]
        key = (change.kind, change.parameter, location, change.pair.head.callee, caller)
        draft = self._by_root.get(key)
        if draft is None:
            draft = self._by_root[key] = CauseBuilder(
                kind=change.kind,
                level=change.level,
                can_explain=change.effective,
                rank=(int(DiffLayer.ASSEMBLY), position),
                where=f"{change.pair.head.callee}.{change.parameter}",
                before=change.before,
                after=change.after,
                parameter=change.parameter,
                location=location,
                root=change,
            )
            self.cause_builders.append(draft)
        else:
            draft.count += 1
            if change.effective and not draft.can_explain:
                draft.replace_shown(change)
        self.join(change, draft)
        return draft

    def by_enclosing_call(self, *, base: Call | None, head: Call | None) -> CauseBuilder | None:
        """Return the cause that changed the nearest enclosing call, of the head if possible."""
        return next(
            (
                draft
                for mark, side, call in self._both(base, head)
                for above in side.ancestors(call.call)
                if (draft := self._by_call.get(f"{mark} {above.call}")) is not None
            ),
            None,
        )

    def by_argument_object(self, *, base: Call | None, head: Call | None) -> CauseBuilder | None:
        """Return the cause that changed an object which a call gets."""
        return next(
            (
                draft
                for mark, _, call in self._both(base, head)
                for label in references_in(list(argument_values(call).values()))
                if (draft := self._by_object.get(f"{mark} {label}")) is not None
            ),
            None,
        )

    def by_made_object(self, *, base: Call | None, head: Call | None) -> CauseBuilder | None:
        """Return the cause that changed an object from which a constructor made its own."""
        for mark, _, call in self._both(base, head):
            draft = self._by_object.get(f"{mark} {made_label(call)}")
            if draft is not None:
                return draft
        return None

    def with_same_values(self, change: ArgumentChange) -> CauseBuilder | None:
        """Return an earlier cause with the same parameter and values: one source feeds both.

        Two calls that got each other's values are one cause too.
        """
        for draft in self.cause_builders:
            root = draft.root
            if root is None or not root.value_only:
                continue
            named = last_name(root.parameter) == last_name(change.parameter)
            if named and (
                _same_values(root, change) or values_swapped(root, change, self.references)
            ):
                return draft
        return None

    def configuration(self) -> CauseBuilder | None:
        """Return the cause that the scenario itself has another configuration."""
        return next((draft for draft in self.cause_builders if draft.callee == "scenario"), None)

    def latest_capable(self) -> CauseBuilder | None:
        """Return the latest cause that can explain behaviour."""
        return next((draft for draft in reversed(self.cause_builders) if draft.can_explain), None)

    def mark_dependents(self, pair: CallPair, changes: Sequence[ArgumentChange]) -> None:
        """Note what depends on a cause after a call: the calls inside, the object it made."""
        held = [draft for one in changes if (draft := self.by_change(one)) and draft.can_explain]
        for mark in side_labels(base_call=pair.base.call, head_call=pair.head.call) if held else ():
            self._by_call[mark] = held[0]
        draft = held[0] if held else self.by_argument_object(base=None, head=pair.head)
        made = side_labels(base_call=made_label(pair.base), head_call=made_label(pair.head))
        for mark in made if draft is not None else ():
            self._by_object.setdefault(mark, draft)  # type: ignore[arg-type]

    def mark_dependents_of_unmatched(self, lone: UnmatchedCall, draft: CauseBuilder) -> None:
        """Note what depends on a call that only one side has."""
        mark = "base" if lone.removed else "head"
        self._by_call[f"{mark} {lone.call.call}"] = draft
        if made := made_label(lone.call):
            self._by_object[f"{mark} {made}"] = draft

    def _both(
        self, base: Call | None, head: Call | None
    ) -> Iterator[tuple[str, RecordingIndex, Call]]:
        if head is not None:
            yield "head", self.head, head
        if base is not None:
            yield "base", self.base, base


def values_swapped(change: ArgumentChange, other: ArgumentChange, references: ReferenceMap) -> bool:
    """Tell whether two arguments got each other's values."""
    return same_value(change.before, other.after, references) and same_value(
        other.before, change.after, references
    )


def _same_values(change: ArgumentChange, other: ArgumentChange) -> bool:
    return same_value(change.before, other.before, IDENTICAL) and same_value(
        change.after, other.after, IDENTICAL
    )
