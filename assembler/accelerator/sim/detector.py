"""Finds conflicting accesses that nothing orders.

Operations are looked at in the order in which they happen, which respects every edge: so it is
enough to ask whether what was there before is known to have happened before.
"""

from assembler.accelerator.access import Access
from assembler.accelerator.sim.clocks import Clock, has_happened
from assembler.accelerator.sim.memory import Memory
from assembler.accelerator.sim.races import Actor, Race, Verb
from assembler.accelerator.sim.shadow import Shadow, State
from assembler.accelerator.sim.spans import spans_of


class RaceDetector:
    """The last accesses to all memory, and the races found.

    Attributes:
        races: in the order found; each pair of operations once for each buffer.
    """

    def __init__(self, *, memory: Memory) -> None:
        self.races: list[Race] = []
        self._memory = memory
        self._shadows: dict[int, Shadow] = {}
        self._told: set[tuple[int, ...]] = set()

    def check(
        self,
        *,
        actor: Actor,
        clock: Clock,
        reads: tuple[Access, ...],
        writes: tuple[Access, ...],
    ) -> list[Race]:
        """Remember what ``actor`` touches and return the races it is part of.

        Args:
            actor: who.
            clock: what happened before it, its own step included.
            reads: what it reads.
            writes: what it writes.
        """
        found: list[Race] = []
        for access in reads:
            self._visit(access, "read", actor, clock, found)
        for access in writes:
            self._visit(access, "write", actor, clock, found)
        self.races.extend(found)
        return found

    def forget_accesses(self) -> None:
        """Forget all accesses: everything so far happened before everything that follows."""
        self._shadows.clear()
        self._told.clear()

    def _visit(
        self, access: Access, verb: Verb, actor: Actor, clock: Clock, found: list[Race]
    ) -> None:
        number = self._memory.number(access.tensor)
        shadow = self._shadow(number)

        def visit(state: State, first_byte: int, stop_byte: int) -> State:
            writers = _unordered(state.writers, clock)
            readers = _unordered(state.readers, clock) if verb == "write" else ()
            sides: list[tuple[Actor, Verb]] = [(writer, "write") for writer in writers]
            sides += [(reader, "read") for reader in readers]
            for earlier, earlier_verb in sides:
                if self._is_new(earlier, actor, number):
                    pair = sorted(
                        [(earlier, earlier_verb), (actor, verb)], key=lambda side: side[0].order
                    )
                    (first, first_verb), (second, second_verb) = pair
                    race = Race(
                        first=first,
                        first_verb=first_verb,
                        second=second,
                        second_verb=second_verb,
                        buffer=self._memory.describe(access.tensor),
                        first_byte=first_byte,
                        stop_byte=stop_byte,
                    )
                    found.append(race)
            if verb == "write":
                return State(writers=(*writers, actor), readers=readers)
            others = tuple(reader for reader in state.readers if reader.party is not actor.party)
            return State(writers=state.writers, readers=(*others, actor))

        shadow.visit(spans_of(access), visit)

    def _is_new(self, first: Actor, second: Actor, buffer: int) -> bool:
        pair = (first.party.number, first.step, second.party.number, second.step, buffer)
        is_new = pair not in self._told
        self._told.add(pair)
        return is_new

    def _shadow(self, number: int) -> Shadow:
        if number not in self._shadows:
            for freed in self._memory.take_freed():
                self._shadows.pop(freed, None)
            self._shadows[number] = Shadow()
        return self._shadows[number]


def _unordered(earlier: tuple[Actor, ...], clock: Clock) -> tuple[Actor, ...]:
    """Return those that are not known to have happened before whoever has ``clock``."""
    return tuple(
        other
        for other in earlier
        if not has_happened(clock, party=other.party.number, step=other.step)
    )
