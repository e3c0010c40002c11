"""Detection of conflicting accesses that nothing orders.

Operations are checked in the order in which they run, which respects every edge: so it is enough
to test whether each earlier access is known to have happened before.
"""

from assembler.device.access import MemoryAccess
from traces.simulator.byte_spans import byte_spans_of
from traces.simulator.memory import SimulatedMemory
from traces.simulator.queues import QueuedOperation
from traces.simulator.races import AccessKind, Accessor, DetectedRace
from traces.simulator.shadow_memory import ByteState, ShadowMemory
from traces.simulator.vector_clocks import VectorClock, has_happened

# Looking for freed memory looks at all of it, and a number is never given twice.
_SPARE_SHADOWS = 64


class RaceDetector:
    """The last accesses to all memory, and the races found.

    Attributes:
        races: in the order found; each pair of operations once for each buffer.
    """

    def __init__(self, *, memory: SimulatedMemory) -> None:
        self.races: list[DetectedRace] = []
        self._memory = memory
        self._shadows: dict[int, ShadowMemory] = {}
        self._reported: set[tuple[int, ...]] = set()
        self._tidy_at = _SPARE_SHADOWS

    def check(self, operation: QueuedOperation) -> list[DetectedRace]:
        """Record the accesses of an operation and return the races it is part of."""
        found: list[DetectedRace] = []
        for access in operation.reads:
            self._visit(access, "read", operation, found)
        for access in operation.writes:
            self._visit(access, "write", operation, found)
        self.races.extend(found)
        return found

    def forget_accesses(self) -> None:
        """Forget all accesses: everything so far happened before everything that follows."""
        self._shadows.clear()
        self._reported.clear()

    def _visit(
        self,
        access: MemoryAccess,
        verb: AccessKind,
        operation: QueuedOperation,
        found: list[DetectedRace],
    ) -> None:
        accessor, clock = operation.accessor, operation.clock
        number = self._memory.number(access.tensor)
        shadow = self._shadow(number)

        # Called once for each distinct earlier state of the bytes, not once for each byte.
        def visit(state: ByteState, first_byte: int, stop_byte: int) -> ByteState:
            writers = _unordered(state.writers, clock)
            readers = _unordered(state.readers, clock) if verb == "write" else ()
            sides: list[tuple[Accessor, AccessKind]] = [(writer, "write") for writer in writers]
            sides += [(reader, "read") for reader in readers]
            for earlier, earlier_verb in sides:
                if self._is_new(earlier, accessor, number):
                    pair = sorted(
                        [(earlier, earlier_verb), (accessor, verb)], key=lambda side: side[0].order
                    )
                    found.append(
                        DetectedRace(
                            first=pair[0][0],
                            first_kind=pair[0][1],
                            second=pair[1][0],
                            second_kind=pair[1][1],
                            memory=number,
                            buffer=self._memory.describe(access.tensor),
                            first_byte=first_byte,
                            stop_byte=stop_byte,
                        )
                    )
            # An ordered write makes earlier accesses irrelevant; unordered ones stay, so that a
            # third access is compared with both.
            if verb == "write":
                return ByteState(writers=(*writers, accessor), readers=readers)
            others = tuple(
                reader for reader in state.readers if reader.timeline is not accessor.timeline
            )
            return ByteState(writers=state.writers, readers=(*others, accessor))

        shadow.visit(byte_spans_of(access), visit)

    def _is_new(self, first: Accessor, second: Accessor, buffer: int) -> bool:
        pair = (first.timeline.number, first.step, second.timeline.number, second.step, buffer)
        is_new = pair not in self._reported
        self._reported.add(pair)
        return is_new

    def _shadow(self, number: int) -> ShadowMemory:
        shadow = self._shadows.get(number)
        if shadow is None:
            if len(self._shadows) >= self._tidy_at:
                for freed in self._memory.take_freed():
                    self._shadows.pop(freed, None)
                self._tidy_at = 2 * len(self._shadows) + _SPARE_SHADOWS
            shadow = self._shadows[number] = ShadowMemory()
        return shadow


def _unordered(earlier: tuple[Accessor, ...], clock: VectorClock) -> tuple[Accessor, ...]:
    """Return the accesses that ``clock`` does not order before itself."""
    return tuple(
        other
        for other in earlier
        if not has_happened(clock, timeline=other.timeline.number, step=other.step)
    )
