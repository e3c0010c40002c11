"""Finds conflicting accesses that nothing orders.

Operations are looked at in the order in which they happen, which respects every edge: so it is
enough to ask whether what was there before is known to have happened before.
"""

import torch

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
        self._told: set[tuple[int, int, int]] = set()

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
            for earlier, earlier_verb in _conflicts(state, verb):
                if has_happened(clock, party=earlier.party.number, step=earlier.step):
                    continue
                if self._is_new(earlier, actor, number):
                    race = Race(
                        first=earlier,
                        first_verb=earlier_verb,
                        second=actor,
                        second_verb=verb,
                        buffer=self._memory.describe(access.tensor),
                        first_byte=first_byte,
                        stop_byte=stop_byte,
                    )
                    found.append(race)
            return _after(state, verb, actor)

        shadow.visit(spans_of(access), visit)

    def _is_new(self, first: Actor, second: Actor, buffer: int) -> bool:
        pair = (id(first), id(second), buffer)
        is_new = pair not in self._told
        self._told.add(pair)
        return is_new

    def _shadow(self, number: int) -> Shadow:
        if number not in self._shadows:
            for freed in self._memory.take_freed():
                self._shadows.pop(freed, None)
            self._shadows[number] = Shadow()
        return self._shadows[number]


def _conflicts(state: State, verb: Verb) -> list[tuple[Actor, Verb]]:
    """Return the earlier accesses that must have happened before this one."""
    conflicts: list[tuple[Actor, Verb]] = []
    if state.writer is not None:
        conflicts.append((state.writer, "write"))
    if verb == "write":
        conflicts.extend((reader, "read") for reader in state.readers)
    return conflicts


def _after(state: State, verb: Verb, actor: Actor) -> State:
    if verb == "write":
        return State(writer=actor, readers=())
    others = tuple(reader for reader in state.readers if reader.party is not actor.party)
    return State(writer=state.writer, readers=(*others, actor))


def host_memory_of(memory: Memory, accesses: tuple[Access, ...]) -> tuple[Access, ...]:
    """Return the accesses to memory that only the host can address by itself."""
    return tuple(access for access in accesses if memory.is_pageable(access.tensor))


