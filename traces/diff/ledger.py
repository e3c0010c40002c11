"""The causes found so far, and what depends on them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from traces.diff.arguments import ArgumentChange
from traces.diff.differences import Layer
from traces.diff.drafts import Draft, marks
from traces.diff.side import Side, argument_values, last_name, made_label
from traces.diff.structure import Lone
from traces.diff.values import IDENTICAL, Pair, References, references_in, same
from traces.model import Call
from traces.verdict import Location

_Key = tuple[object, ...]


@dataclass(slots=True, kw_only=True)
class Ledger:
    """Causes in order, with lookups from calls and objects to the cause that changed them."""

    base: Side
    head: Side
    references: References
    drafts: list[Draft]
    _of_change: dict[ArgumentChange, Draft] = field(default_factory=dict)
    _of_root: dict[_Key, Draft] = field(default_factory=dict)
    _of_call: dict[str, Draft] = field(default_factory=dict)
    _of_object: dict[str, Draft] = field(default_factory=dict)

    def of_change(self, change: ArgumentChange | None) -> Draft | None:
        """Return the cause a difference belongs to."""
        return None if change is None else self._of_change.get(change)

    def belongs(self, change: ArgumentChange, draft: Draft) -> None:
        """Note that a difference belongs to a cause, as root, member or consequence."""
        self._of_change[change] = draft

    def join(self, change: ArgumentChange, draft: Draft) -> None:
        """Make a difference a member of a cause: the same argument, handed down."""
        draft.members.append(change)
        draft.worsen(change.level)
        draft.calls |= marks(base_call=change.pair.base.call, head_call=change.pair.head.call)
        self.belongs(change, draft)

    def root(self, change: ArgumentChange, *, location: Location | None, position: int) -> Draft:
        """Make a difference a cause, or count it with the one that has the same line."""
        caller = change.pair.head.parent.partition("#")[0]
        key = (change.kind, change.parameter, location, change.pair.head.callee, caller)
        draft = self._of_root.get(key)
        if draft is None:
            draft = self._of_root[key] = Draft(
                kind=change.kind,
                level=change.level,
                capable=change.effective,
                rank=(int(Layer.ASSEMBLY), position),
                where=f"{change.pair.head.callee}.{change.parameter}",
                before=change.before,
                after=change.after,
                parameter=change.parameter,
                location=location,
                root=change,
            )
            self.drafts.append(draft)
        else:
            draft.count += 1
            if change.effective and not draft.capable:
                draft.promote(change)
        self.join(change, draft)
        return draft

    def around(self, *, base: Call | None, head: Call | None) -> Draft | None:
        """Return the cause that changed the nearest enclosing call, of the head if possible."""
        return next(
            (
                draft
                for mark, side, call in self._both(base, head)
                for above in side.ancestors(call.call)
                if (draft := self._of_call.get(f"{mark} {above.call}")) is not None
            ),
            None,
        )

    def by_object(self, *, base: Call | None, head: Call | None) -> Draft | None:
        """Return the cause that changed an object which a call gets."""
        return next(
            (
                draft
                for mark, _, call in self._both(base, head)
                for label in references_in(list(argument_values(call).values()))
                if (draft := self._of_object.get(f"{mark} {label}")) is not None
            ),
            None,
        )

    def of_made(self, *, base: Call | None, head: Call | None) -> Draft | None:
        """Return the cause that changed an object from which a constructor made its own."""
        for mark, _, call in self._both(base, head):
            draft = self._of_object.get(f"{mark} {made_label(call)}")
            if draft is not None:
                return draft
        return None

    def alike(self, change: ArgumentChange) -> Draft | None:
        """Return an earlier cause with the same parameter and values: one source feeds both.

        Two calls that got each other's values are one cause too.
        """
        for draft in self.drafts:
            root = draft.root
            if root is None or not root.mere_value:
                continue
            named = last_name(root.parameter) == last_name(change.parameter)
            if named and (_same_values(root, change) or crossed(root, change, self.references)):
                return draft
        return None

    def configuration(self) -> Draft | None:
        """Return the cause that the scenario itself has another configuration."""
        return next((draft for draft in self.drafts if draft.callee == "scenario"), None)

    def nearest(self) -> Draft | None:
        """Return the latest cause that can explain behaviour."""
        return next((draft for draft in reversed(self.drafts) if draft.capable), None)

    def pass_on(self, pair: Pair, changes: Sequence[ArgumentChange]) -> None:
        """Note what depends on a cause after a call: the calls inside, the object it made."""
        held = [draft for one in changes if (draft := self.of_change(one)) and draft.capable]
        for mark in marks(base_call=pair.base.call, head_call=pair.head.call) if held else ():
            self._of_call[mark] = held[0]
        draft = held[0] if held else self.by_object(base=None, head=pair.head)
        made = marks(base_call=made_label(pair.base), head_call=made_label(pair.head))
        for mark in made if draft is not None else ():
            self._of_object.setdefault(mark, draft)  # type: ignore[arg-type]

    def pass_on_lone(self, lone: Lone, draft: Draft) -> None:
        """Note what depends on a call that only one side has."""
        mark = "base" if lone.removed else "head"
        self._of_call[f"{mark} {lone.call.call}"] = draft
        if made := made_label(lone.call):
            self._of_object[f"{mark} {made}"] = draft

    def _both(self, base: Call | None, head: Call | None) -> Iterator[tuple[str, Side, Call]]:
        if head is not None:
            yield "head", self.head, head
        if base is not None:
            yield "base", self.base, base


def crossed(change: ArgumentChange, other: ArgumentChange, references: References) -> bool:
    """Tell whether two arguments got each other's values."""
    return same(change.before, other.after, references) and same(
        other.before, change.after, references
    )


def _same_values(change: ArgumentChange, other: ArgumentChange) -> bool:
    return same(change.before, other.before, IDENTICAL) and same(
        change.after, other.after, IDENTICAL
    )
