"""Gives every difference that is no argument to the cause that explains it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from traces.diff.attribute.cause_builder import (
    SIGNATURE_KINDS,
    CauseBuilder,
    cause_from_difference,
    side_labels,
)
from traces.diff.attribute.cause_index import CauseIndex
from traces.diff.attribute.storage_differences import storage_subject
from traces.diff.compare.optional_reads import accessor_in
from traces.diff.compare.tensors import pool_of
from traces.diff.differences import Difference, DiffLayer, EventFamily
from traces.diff.index import RecordingIndex
from traces.schema.verdict import Level

_RESULTS = (DiffLayer.DIGESTS, DiffLayer.OUTCOME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Assigns consequences; what nothing explains becomes a cause itself."""

    base: RecordingIndex
    head: RecordingIndex
    cause_index: CauseIndex
    _makers: dict[str, set[str]] = field(default_factory=dict)

    def tensors(self, differences: Iterable[Difference]) -> None:
        """Assign buffers: to the cause that reaches their constructor, else to the nearest.

        Unexplained ones are one cause for each class of pool.
        """
        own: dict[str, CauseBuilder] = {}
        for found in differences:
            maker = side_labels(base_call=found.base_call, head_call=found.head_call)
            draft = (
                self._touching(maker)
                or self.cause_index.by_made_object(
                    base=self.base.call(found.base_call) if found.base_call else None,
                    head=self.head.call(found.head_call) if found.head_call else None,
                )
                or self._nearest(found, before=(DiffLayer.TENSORS, 0))
            )
            callee = self._callee(found)
            draft = draft or own.get(callee)
            if draft is None:
                own[callee] = self._root(found)
            else:
                _assign(found, draft)

    def events(self, differences: Sequence[Difference]) -> None:
        """Assign events; the first unexplained one is a cause, the others follow from it.

        A lost edge moves no bytes, so transfers that differ are a cause of their own. They explain
        the edges that come and go beside them, and the other end of those edges.
        """
        hunks: dict[int, list[Difference]] = {}
        for found in differences:
            hunks.setdefault(found.hunk, []).append(found)
        carried = {found.edge for hunk in hunks.values() if _moves_data(hunk) for found in hunk}
        explained: dict[str, CauseBuilder | None] = {}
        own: dict[EventFamily, CauseBuilder] = {}
        affairs: dict[str, CauseBuilder] = {}
        for hunk in hunks.values():
            for found in sorted(hunk, key=lambda one: one.family):
                own_affair = accessor_in(found) or storage_subject(
                    found, base=self.base, head=self.head
                )
                if own_affair:
                    # Whether an accessor waits, and who stores what, follows from nothing else.
                    if own_affair in affairs:
                        _assign(found, affairs[own_affair])
                    else:
                        affairs[own_affair] = self._root(found)
                    continue
                if found.pool not in explained:
                    explained[found.pool] = self._cause_of_pool(found.pool) or self._nearest(
                        found, before=(DiffLayer.EVENTS, 0)
                    )
                free = found.family is EventFamily.ORDER and found.edge not in carried
                allowed = [EventFamily.ORDER] if free else [*EventFamily][: found.family + 1]
                draft = explained[found.pool] or _first(own, allowed)
                if draft is None:
                    own[found.family] = self._root(found)
                else:
                    _assign(found, draft)

    def others(self, differences: Iterable[Difference]) -> None:
        """Assign what lies downstream of the events, most upstream first."""
        for found in sorted(differences, key=lambda one: one.rank):
            draft = self._cause_of_pool(found.pool) or self._nearest(
                found, before=(found.layer, found.position + 1)
            )
            if draft is None:
                self._root(found)
            else:
                _assign(found, draft)

    def ending(self, differences: Sequence[Difference], truncated: Sequence[Difference]) -> None:
        """Assign the end of the scenario, and all that is missing because of it.

        Args:
            differences: calls that raise on one side only, then the outcome.
            truncated: what one side never came to.
        """
        draft = self._cause_of_ending(differences)
        for found in (*reversed(differences), *truncated):
            if draft is None:
                draft = self._root(found)
            else:
                draft.add_consequences([found])

    def interface(self, differences: Sequence[Difference]) -> None:
        """Make differences that change no behaviour one cause."""
        if differences:
            self._root(differences[0]).add_consequences(differences[1:])

    def _root(self, found: Difference) -> CauseBuilder:
        draft = cause_from_difference(found)
        self.cause_index.cause_builders.append(draft)
        return draft

    def _nearest(self, found: Difference, *, before: tuple[int, int]) -> CauseBuilder | None:
        """Return the latest cause before a rank that can explain a difference.

        How a scenario ended, and what came back, follows rather from a cause that changed buffers
        than from one that nothing else shows of.
        """
        able = [
            draft
            for draft in self.cause_index.cause_builders
            if draft.can_explain and draft.rank < before and _reaches(draft, found)
        ]
        proven = [draft for draft in able if draft.level is Level.BEHAVIOUR] or able
        if found.layer in _RESULTS:
            proven = [draft for draft in proven if _has_changed_buffers(draft)] or proven
        return max(proven, key=lambda draft: draft.rank, default=None)

    def _cause_of_pool(self, pool: str) -> CauseBuilder | None:
        """Return the cause that reaches the constructor of a device or host pool."""
        if pool and pool not in self._makers:
            self._makers[pool] = {
                f"{mark} {maker.call}"
                for mark, side in (("base", self.base), ("head", self.head))
                for tensor in side.trace.tensors
                if pool_of(tensor.owner) == pool
                if (maker := side.makers.get(tensor.object)) is not None
            }
        return self._touching(self._makers.get(pool, set()))

    def _touching(self, calls: set[str]) -> CauseBuilder | None:
        """Return the latest capable cause that shows in one of some calls."""
        able = [
            draft
            for draft in self.cause_index.cause_builders
            if draft.can_explain and draft.calls & calls
        ]
        return max(able, key=lambda draft: draft.rank, default=None)

    def _cause_of_ending(self, differences: Sequence[Difference]) -> CauseBuilder | None:
        """Return the cause nearest to the call that the exception left first."""
        origins = {found.head_call for found in differences if found.head_call}
        for label in sorted(origins, key=lambda label: (-self.head.depth(label), label)):
            call = self.head.call(label)
            draft = self._touching({f"head {label}"}) or self.cause_index.by_enclosing_call(
                base=None, head=call
            )
            if draft is not None:
                return draft
        rank = (DiffLayer.OUTCOME, 0)
        return self._nearest(differences[-1], before=rank) if differences else None

    def _callee(self, found: Difference) -> str:
        if found.head_call:
            return self.head.call(found.head_call).callee
        return self.base.call(found.base_call).callee if found.base_call else found.pool


def _has_changed_buffers(draft: CauseBuilder) -> bool:
    return any(found.layer is DiffLayer.TENSORS for found in draft.found)


def _moves_data(hunk: Sequence[Difference]) -> bool:
    return any(found.family is EventFamily.DATA for found in hunk)


def _first(
    own: Mapping[EventFamily, CauseBuilder], allowed: Iterable[EventFamily]
) -> CauseBuilder | None:
    return next((own[family] for family in allowed if family in own), None)


def _assign(found: Difference, draft: CauseBuilder) -> None:
    """Add a consequence, or count the fault once more when it is the same in another place."""
    source = draft.source
    again = (
        source is not None
        and source.layer is found.layer
        and (source.kind, source.pattern) == (found.kind, found.pattern)
    )
    if again:
        draft.count += 1
    else:
        draft.add_consequences([found])


def _reaches(draft: CauseBuilder, found: Difference) -> bool:
    """Tell whether a cause can explain a difference.

    A parameter that came or went between builders explains buffers, but no more: all that
    constructors got is known to be equal.
    """
    between_builders = draft.kind in SIGNATURE_KINDS and draft.level is not Level.BEHAVIOUR
    return found.layer is DiffLayer.TENSORS or not between_builders
