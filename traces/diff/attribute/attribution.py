"""Assignment of differences in buffers, events and results to the causes that explain them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from traces.diff.attribute.causes import CauseIndex
from traces.diff.attribute.lineage import PoolFlow
from traces.diff.attribute.storage_causes import StorageCauses
from traces.diff.compare.events import (
    EventDifference,
    EventFamily,
    accessors_by_stream,
    accessors_of,
    methods_by_stream,
)
from traces.diff.differences import SIGNATURE_KINDS, Difference, DiffLayer
from traces.diff.index import RecordingIndex
from traces.diff.locations import LocationFinder
from traces.diff.pairing import CallPairing
from traces.schema.copies import Copy
from traces.schema.device_waits import DeviceAwaited
from traces.schema.model import (
    Event,
    EventAwaited,
    EventRecorded,
    Location,
    Message,
    Transfer,
)
from traces.schema.storage_records import StorageAccess
from traces.schema.verdict import Kind, Level

_RESULTS = (DiffLayer.DIGESTS, DiffLayer.OUTCOME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Attribution of consequences to causes; an unexplained difference becomes a cause itself."""

    pairing: CallPairing
    cause_index: CauseIndex
    flow: PoolFlow
    locations: LocationFinder
    _makers: dict[str, set[str]] = field(default_factory=dict)

    def assign_tensors(self, differences: Iterable[Difference]) -> None:
        """Assign buffers: to the cause that reaches their constructor, else to the nearest.

        Unexplained ones are one cause for each class of pool.
        """
        own: dict[str, Difference] = {}
        for found in differences:
            sides = self.pairing
            cause = (
                self._touching(found.calls)
                or self.cause_index.by_made_object(
                    base=sides.call(base=found.base_call, head=""),
                    head=sides.call(base="", head=found.head_call),
                )
                or self._nearest(found, before=(DiffLayer.TENSORS, 0))
            )
            call = sides.call(base=found.base_call, head=found.head_call)
            callee = call.callee if call is not None else found.pool
            given = self._give(found, cause or own.get(callee))
            if cause is None:
                own[callee] = given

    def assign_events(self, differences: Sequence[EventDifference]) -> None:
        """Assign events; the first unexplained one is a cause, the others follow from it.

        A lost edge moves no bytes, so transfers that differ are a cause of their own. They explain
        the edges that come and go beside them, and the other end of those edges. Transfers that
        only happen elsewhere in a step follow from the edges that differ in it. What is looked for
        and fetched from a storage backend follows from what is stored there.
        """
        moved = _moved_among(differences)
        hunks: dict[int, list[EventDifference]] = {}
        for found in differences:
            if id(found) not in moved:
                hunks.setdefault(found.hunk, []).append(found)
        carried = {
            found.edge
            for hunk in hunks.values()
            if any(found.family is EventFamily.DATA for found in hunk)
            for found in hunk
        }
        explained: dict[tuple[str, Kind], Difference | None] = {}
        own: dict[EventFamily, Difference] = {}
        by_subject: dict[str, Difference] = {}
        stored = StorageCauses()
        sides = self.pairing
        readers = accessors_by_stream(sides.base.trace) | accessors_by_stream(sides.head.trace)
        for hunk in hunks.values():
            for found in sorted(hunk, key=lambda one: one.family):
                is_accessor = not isinstance(found.event, DeviceAwaited)
                accessors = accessors_of(found.event, readers) if is_accessor else ()
                subject = accessors[0] if accessors else self._storage_subject(found)
                upstream = stored.cause_of(found)
                if subject:
                    # The wait of an accessor, and what is stored, follow from nothing else.
                    found.location = self._accessor_line(found.event)
                    known = by_subject.get(subject) or upstream
                    by_subject[subject] = self._give(found, known)
                    stored.add(found, by_subject[subject])
                    continue
                what = (found.pool, found.kind)
                if what not in explained:
                    near = self._nearest(found, before=(DiffLayer.EVENTS, 0))
                    explained[what] = self._cause_of_pool(found.pool) or near
                free = found.family is EventFamily.ORDER and found.edge not in carried
                allowed = [EventFamily.ORDER] if free else [*EventFamily][: found.family + 1]
                first = next((own[family] for family in allowed if family in own), None)
                cause = explained[what] or upstream or first
                given = self._give(found, cause)
                stored.add(found, given)
                if cause is None:
                    own[found.family] = given

        self._assign_moved([found for found in differences if id(found) in moved])

    def _assign_moved(self, differences: Iterable[EventDifference]) -> None:
        """Assign transfers that happen elsewhere in their step."""
        own: Difference | None = None
        for found in differences:
            edges = (
                cause
                for cause in self.cause_index.causes
                if isinstance(cause, EventDifference) and cause.family is EventFamily.ORDER
                if cause.event.step == found.event.step
            )
            near = self._cause_of_pool(found.pool) or self._nearest(
                found, before=(DiffLayer.EVENTS, 0)
            )
            given = self._give(found, near or next(edges, None) or own)
            own = own or given

    def _accessor_line(self, event: Event) -> Location | None:
        """Return the line of the accessor on whose stream an event is; None for another event."""
        if not isinstance(event, EventAwaited | EventRecorded):
            return None
        sides = (self.pairing.head, self.pairing.base)
        methods = (methods_by_stream(side.trace).get(event.stream, "") for side in sides)
        lines = (side.sites.definitions.get(method) for side in sides for method in methods)
        return next(filter(None, lines), None)

    def assign_downstream(self, differences: Iterable[Difference]) -> None:
        """Assign what lies downstream of the events, most upstream first."""
        for found in sorted(differences, key=lambda one: one.rank):
            rank = (found.layer, found.position + 1)
            self._give(found, self._cause_of_pool(found.pool) or self._nearest(found, before=rank))

    def assign_answers(self, differences: Iterable[Difference]) -> None:
        """Assign what pools answer about their memory: it follows from their buffers alone.

        The same change of one method, which several pools inherit or forward to, is one cause.
        """
        events = (one for one in self.cause_index.causes if one.layer is DiffLayer.EVENTS)
        own: dict[object, Difference] = {
            cause.location: cause for cause in events if cause.location is not None
        }
        for found in differences:
            rank = (found.layer, found.position + 1)
            nearest = self._nearest(found, before=rank)
            is_explained = nearest is not None and _has_changed_buffers(nearest)
            subjects = (found.location, repr((found.before, found.after)))
            known = (own[subject] for subject in subjects if subject in own)
            cause = nearest if is_explained else next(known, None)
            given = self._give(found, cause)
            if not is_explained:
                own |= dict.fromkeys(subjects, given)

    def assign_refusals(
        self, refusals: Iterable[Sequence[Difference]], cut: list[Difference]
    ) -> None:
        """Assign refusals that came or went, and take from ``cut`` the calls that each cut off.

        A refusal is upstream of what a side does that does not refuse. It follows from a cause that
        reaches its calls; one that is new also from buffers that differ.
        """
        for series in refusals:
            inner, sides = series[-1], self.pairing
            calls = {label for found in series for label in found.calls}
            cause = self._touching(calls) or self.cause_index.by_enclosing_call(
                base=sides.base.call(inner.base_call), head=sides.head.call(inner.head_call)
            )
            inner.layer = DiffLayer.ASSEMBLY
            inner.position = 2 * sides.head.positions[inner.head_call] + 1
            if cause is None and inner.before is None:
                cause = self._nearest(inner, before=(DiffLayer.TENSORS + 1, 0))
            step = sides.head.call(inner.head_call).step
            inner.location = inner.location or self._line_of_message(step)
            cause = self._give(inner, cause)
            own = [
                found
                for found in cut
                if self._is_inside(found, calls) or self._is_in_step(found, step)
            ]
            cause.add_consequences([*series[:-1], *own])
            cause.calls |= calls.union(*(found.calls for found in own))
            cut[:] = [found for found in cut if found not in own]

    def _is_inside(self, found: Difference, calls: set[str]) -> bool:
        """Return whether the call of a difference was made from one of some calls."""
        mark, side, label = "base", self.pairing.base, found.base_call
        if found.head_call:
            mark, side, label = "head", self.pairing.head, found.head_call
        return any(f"{mark} {above.call}" in calls for above in side.ancestors(label))

    def _is_in_step(self, found: Difference, step: str) -> bool:
        """Return whether the call of a difference was made in a step."""
        label, side = found.base_call, self.pairing.base
        if found.head_call:
            label, side = found.head_call, self.pairing.head
        return bool(label) and side.call(label).step == step

    def _line_of_message(self, step: str) -> Location | None:
        """Return the line of the first warning or error of a step, of the head if it has any."""
        lines = (
            (side.event_line(index), side)
            for side in (self.pairing.head, self.pairing.base)
            for index, event in enumerate(side.trace.events)
            if isinstance(event, Message) and event.step == step
        )
        line, side = next((found for found in lines if found[0]), (None, self.pairing.head))
        return line if side is self.pairing.head else self.locations.of_base(line)

    def assign_ending(self, ending: Sequence[Difference], cut: Sequence[Difference]) -> None:
        """Assign calls that raise on one side only, the outcome, and what a side never came to."""
        cause = self._cause_of_ending(ending)
        for found in (*reversed(ending), *cut):
            if cause is None:
                cause = self._give(found, None)
            else:
                cause.add_consequences([found])

    def assign_interface(self, differences: Sequence[Difference]) -> None:
        """Make differences that change no behaviour one cause."""
        if differences:
            self._give(differences[0], None).add_consequences(differences[1:])

    def _give(self, found: Difference, cause: Difference | None) -> Difference:
        """Add a difference to a cause, or make it one; return the cause.

        The same fault in another place is counted once more.
        """
        if cause is None:
            self.cause_index.causes.append(found)
            return found
        if (cause.layer, cause.kind, cause.pattern) == (found.layer, found.kind, found.pattern):
            cause.count += 1
        else:
            cause.add_consequences([found])
        return cause

    def _nearest(self, found: Difference, *, before: tuple[int, int]) -> Difference | None:
        """Return the latest cause before a rank that can explain a difference.

        For the outcome and for digests, causes that changed buffers come before those that changed
        nothing else that was recorded.
        """
        able = [
            cause
            for cause in self.cause_index.causes
            if cause.can_explain and cause.rank < before and self._reaches(cause, found)
        ]
        proven = [cause for cause in able if cause.level is Level.BEHAVIOUR] or able
        if found.layer in _RESULTS:
            proven = [cause for cause in proven if _has_changed_buffers(cause)] or proven
        return max(proven, key=lambda cause: cause.rank, default=None)

    def _reaches(self, cause: Difference, found: Difference) -> bool:
        """Return whether a cause can explain a difference.

        A parameter that came or went between builders explains buffers, but no more: all that
        constructors got is known to be equal. What happens to a pool follows from what reaches it.
        """
        if found.layer is DiffLayer.TENSORS:
            return True
        between_builders = cause.kind in SIGNATURE_KINDS and cause.level is not Level.BEHAVIOUR
        return not between_builders and (not found.pool or self.flow.reaches(cause, found))

    def _storage_subject(self, found: EventDifference) -> str:
        """Return the subject of a difference of storage; empty where another cause may explain it.

        A side that opens no storage stores nothing, and one whose pool is missing or has other
        bytes does not store it as before: that follows from what was assembled.
        """
        sides = (self.pairing.base, self.pairing.head)
        follows = (
            not isinstance(found.event, StorageAccess)
            or found.kind is Kind.TRANSFER_CHANGED
            or not all(_opens_storage(side) for side in sides)
            or (found.pool and not all(_has_host_pool(side, found.pool) for side in sides))
        )
        return "" if follows else f"{found.kind} {found.pattern}"

    def _cause_of_pool(self, pool: str) -> Difference | None:
        """Return the cause that reaches the constructor of a device or host pool."""
        if pool and pool not in self._makers:
            self._makers[pool] = {
                f"{mark} {maker.call}"
                for mark, side in (("base", self.pairing.base), ("head", self.pairing.head))
                for tensor in side.trace.tensors
                if tensor.pool == pool
                if (maker := side.makers.get(tensor.object)) is not None
            }
        return self._touching(self._makers.get(pool, set()))

    def _touching(self, calls: set[str]) -> Difference | None:
        """Return the latest capable cause that shows in one of some calls."""
        able = (cause for cause in self.cause_index.causes if cause.can_explain)
        touching = (cause for cause in able if cause.calls & calls)
        return max(touching, key=lambda cause: cause.rank, default=None)

    def _cause_of_ending(self, differences: Sequence[Difference]) -> Difference | None:
        """Return the cause nearest to the call that the exception left first."""
        origins = {found.head_call for found in differences if found.head_call}
        for label in sorted(origins, key=lambda label: (-self.pairing.head.depth(label), label)):
            call = self.pairing.head.call(label)
            above = self.cause_index.by_enclosing_call(base=None, head=call)
            if cause := self._touching({f"head {label}"}) or above:
                return cause
        rank = (DiffLayer.OUTCOME, 0)
        return self._nearest(differences[-1], before=rank) if differences else None


def _has_changed_buffers(cause: Difference) -> bool:
    own = (cause, *cause.consequences)
    return any(found.layer is DiffLayer.TENSORS for found in own)


def _opens_storage(side: RecordingIndex) -> bool:
    accesses = (event for event in side.trace.events if isinstance(event, StorageAccess))
    return any(access.operation == "open" for access in accesses)


def _has_host_pool(side: RecordingIndex, pool: str) -> bool:
    return any(one.side == "host" and one.pool == pool for one in side.trace.tensors)


def _moved_among(differences: Iterable[EventDifference]) -> frozenset[int]:
    """Return the identities of lost and new transfers that are equal in pairs.

    Such a transfer happens as before, elsewhere in its step.
    """
    waiting: dict[Event, list[EventDifference]] = {}
    moved: set[int] = set()
    for found in differences:
        is_one_sided = (found.before is None) != (found.after is None)
        if not is_one_sided or not isinstance(found.event, Transfer | Copy) or found.truncated:
            continue
        others = waiting.setdefault(found.event, [])
        if others and (others[-1].before is None) != (found.before is None):
            moved |= {id(found), id(others.pop())}
        else:
            others.append(found)
    return frozenset(moved)
