"""Search for the source line of a difference."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from traces.diff.compare.events import EventComparison, EventDifference, event_family
from traces.diff.differences import SIGNATURE_KINDS, ArgumentChange, Difference
from traces.diff.index import RecordingIndex
from traces.diff.pairing import CallPairing
from traces.schema.model import Location, Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationFinder:
    """Lookup of lines: in the head where it has any, else in the base."""

    pairing: CallPairing
    events: EventComparison

    def of_argument(self, change: ArgumentChange) -> Location | None:
        """Return the call that passes it, or the signature when that is what changed."""
        head, base = change.pair.head, change.pair.base
        bound = head.raises is None or head.raises.type != "TypeError"
        in_signature = change.by_default or (change.kind in SIGNATURE_KINDS and bound)
        line = self.pairing.head.definition(head.callee) if in_signature else None
        return (
            line
            or self._of_call(self.pairing.head, head.call)
            or self._of_call(self.pairing.base, base.call)
        )

    def of_call(self, *, base_call: str, head_call: str) -> Location | None:
        """Return the line of a call, in the side that has it."""
        if head_call in self.pairing.head.positions:
            return self._of_call(self.pairing.head, head_call)
        return self._of_call(self.pairing.base, base_call)

    @staticmethod
    def _of_call(side: RecordingIndex, label: str) -> Location | None:
        known = label in side.positions
        return side.call_line(label) or (
            side.definition(side.call(label).callee) if known else None
        )

    def of_definition(self, callee: str) -> Location | None:
        """Return where a callee is defined."""
        return self.pairing.head.definition(callee) or self.pairing.base.definition(callee)

    def of_event(self, found: EventDifference) -> Location | None:
        """Return the line of an event.

        A lost one has no line in the head. Where the base has its line, that is carried over, or
        returned as it is when the head shares no line with that file. Only where the base has
        none is it the line of a neighbour that the head still has: the event of its family before
        it, else the one after it, else any event, of the same step.
        """
        if found.after is not None:
            return self.pairing.head.event_line(found.head_index)
        if found.base_index is None:
            return None
        old = self.pairing.base.event_line(found.base_index)
        if old is not None:
            return _carried_over(old, self._known_lines()) or old
        return next(self._near(found.base_index), None)

    def _known_lines(self) -> Iterator[tuple[Location | None, Location | None]]:
        """Yield lines of the base with the same lines of the head."""
        for callee in self.pairing.base.sites.definitions:
            yield self.pairing.base.definition(callee), self.pairing.head.definition(callee)
        for i, j in self.events.alignment.pairs:
            yield self.pairing.base.event_line(i), self.pairing.head.event_line(j)
        for pair in self.pairing.pairs:
            yield (
                self.pairing.base.call_line(pair.base.call),
                self.pairing.head.call_line(pair.head.call),
            )

    def _near(self, index: int) -> Iterator[Location]:
        lost = self.events.old[index]
        partners = dict(self.events.alignment.pairs)
        order = [*range(index - 1, -1, -1), *range(index + 1, len(self.events.old))]
        here = [i for i in order if i in partners and self.events.old[i].step == lost.step]
        for alike in (True, False):
            for i in here:
                line = self.pairing.head.event_line(partners[i])
                if line and (event_family(self.events.old[i]) == event_family(lost)) is alike:
                    yield line

    def of_content(self, found: Difference) -> Location | None:
        """Return the last transfer of the pool: the likely writer of content that differs."""
        new = self.events.new
        lines = (
            self.pairing.head.event_line(index)
            for index in reversed(range(len(new)))
            if isinstance(event := new[index], Transfer) and event.pool == found.pool
        )
        return next((line for line in lines if line is not None), None)

    def of_end(self) -> Location | None:
        """Return the last line that the head is known to have reached."""
        line = self.pairing.head.event_line(len(self.pairing.head.trace.events) - 1)
        calls = reversed(self.pairing.head.calls)
        return line or next((self._of_call(self.pairing.head, call.call) for call in calls), None)

    def function_at(self, line: Location | None) -> str | None:
        """Return the recorded callee whose definition is the last one above a line."""
        above = [
            (site.line, callee)
            for callee, site in self.pairing.head.sites.definitions.items()
            if line is not None and site.file == line.file and site.line <= line.line
        ]
        return max(above, default=(0, None))[1]


def _carried_over(
    old: Location, known: Iterable[tuple[Location | None, Location | None]]
) -> Location | None:
    """Translate a line of the base by the nearest line above it that both sides know.

    Args:
        old: line of the base.
        known: lines of the base with the same lines of the head, or None.

    Returns:
        None when no line of that file is known.
    """
    same_file = [(one, new) for one, new in known if one and new and one.file == old.file]
    above = [pair for pair in same_file if pair[0].line <= old.line] or same_file
    if not above:
        return None
    near, new = min(above, key=lambda pair: (abs(pair[0].line - old.line), pair[1].line))
    return Location(file=new.file, line=max(1, new.line + old.line - near.line))
