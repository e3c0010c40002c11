"""Search for the source line of a difference."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from traces.diff.compare.events import EventComparison, EventDifference, event_family
from traces.diff.differences import SIGNATURE_KINDS, ArgumentChange, Difference
from traces.diff.pairing import CallPairing
from traces.schema.model import Location, Transfer

_Lines = tuple[Location | None, Location | None]


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
        line = self.pairing.head.sites.definitions.get(head.callee) if in_signature else None
        calls = self.pairing.head.call_line(head.call), self.pairing.base.call_line(base.call)
        return line or calls[0] or calls[1]

    def of_call(self, found: Difference) -> Location | None:
        """Return the line of the call of a difference, in the side that has it."""
        if found.head_call in self.pairing.head.positions:
            return self.pairing.head.call_line(found.head_call)
        return self.pairing.base.call_line(found.base_call)

    def of_definition(self, callee: str) -> Location | None:
        """Return where a callee is defined."""
        old, new = (side.sites.definitions for side in (self.pairing.base, self.pairing.head))
        return new.get(callee) or old.get(callee)

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
        return self.of_base(old) or next(self._near(found.base_index), None)

    def of_base(self, line: Location | None) -> Location | None:
        """Return where a line of the base lies in the head, as far as lines of both are known."""
        return None if line is None else _carried_over(line, self._known_lines()) or line

    def _known_lines(self) -> Iterator[_Lines]:
        """Yield lines of the base with the same lines of the head."""
        base, head = self.pairing.base, self.pairing.head
        for callee, line in base.sites.definitions.items():
            yield line, head.sites.definitions.get(callee)
        for i, j in self.events.alignment.pairs:
            yield base.event_line(i), head.event_line(j)
        for pair in self.pairing.pairs:
            yield base.sites.calls.get(pair.base.call), head.sites.calls.get(pair.head.call)

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
        head = self.pairing.head
        line = head.event_line(len(head.trace.events) - 1)
        return line or next((head.call_line(call.call) for call in head.calls[-1:]), None)

    def function_at(self, line: Location | None) -> str | None:
        """Return the recorded callee whose definition is the last one above a line."""
        above = [
            (site.line, callee)
            for callee, site in self.pairing.head.sites.definitions.items()
            if line is not None and site.file == line.file and site.line <= line.line
        ]
        return max(above, default=(0, None))[1]


def _carried_over(old: Location, known: Iterable[_Lines]) -> Location | None:
    """Translate a line of the base by the nearest line above it that both sides know, if any."""
    same_file = [(one, new) for one, new in known if one and new and one.file == old.file]
    above = [pair for pair in same_file if pair[0].line <= old.line] or same_file
    if not above:
        return None
    near, new = min(above, key=lambda pair: (abs(pair[0].line - old.line), pair[1].line))
    return Location(file=new.file, line=max(1, new.line + old.line - near.line))
