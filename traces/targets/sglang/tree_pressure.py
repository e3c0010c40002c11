"""A release's tree while device and host run out of room, and a load that needs some.

The host has room for two sequences, and four are inserted. A load that finds the device full evicts
other nodes; where evicted nodes are written back, that evicts nodes from the host as well, and the
slots that the load reads have to stay.
"""

from collections.abc import Iterator
from typing import Any

import torch

from traces.schema.life import StateRecord
from traces.schema.model import StepRecord, TreeMatch
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.tree_client import TreeRequest
from traces.targets.sglang.tree_driver import MAMBA, TokenSequence, TreeDriver
from traces.targets.sglang.tree_ledger import CountedPool, TreeLedger

STEP = "full"
# Sequences that a host with little room takes, and how many are inserted then.
_FIT, _MORE_THAN_FIT = 2, 4
# Number of the first part of the first sequence, whose tokens begin at a thousand times it.
_PART = 20


class TreePressure:
    """Drives one tree; ``ledger`` reads it."""

    def __init__(self, stack: AssembledStack, *, driver: TreeDriver, ledger: TreeLedger) -> None:
        self._stack = stack
        self._driver = driver
        self._ledger = ledger
        self._reserved: list[tuple[CountedPool, torch.Tensor]] = []
        self._sequences = tuple(self._sequence(number) for number in range(_MORE_THAN_FIT))

    def run(self) -> Iterator[StepRecord]:
        """Yield the records of every moment, from an empty tree on."""
        self._driver.flush()
        yield from self.fill()
        for sequence in self._sequences:
            yield from self._load_into_full_device(sequence)
        self.give_back()

    def fill(self) -> Iterator[StateRecord]:
        """Leave room for two sequences on the host, and insert more of them than fit."""
        driver = self._driver
        for pool in self._ledger.pools:
            self._reserve(pool)
        for sequence in self._sequences:
            driver.insert(sequence)
            driver.insert_again(sequence)
            driver.acknowledge()
        yield from self._ledger.read("full", is_final=True)

    def match_all(self) -> Iterator[TreeMatch]:
        """Yield which sequences the tree still has."""
        for sequence in self._sequences:
            match = self._match(sequence)
            found = len(self._driver.tree.device_slots(match)) + int(match.host_hit_length)
            yield TreeMatch(
                step=self._ledger.step,
                sequence=sequence.name,
                phase="full",
                found=found > 0,
                missing="",
                elsewhere="",
            )

    def give_back(self) -> None:
        """Free the slots that were taken of the host."""
        for pool, slots in self._reserved:
            pool.allocator.free(slots)
            self._ledger.held[pool.side, pool.pool] -= slots.numel()
        self._reserved.clear()

    def _load_into_full_device(self, sequence: TokenSequence) -> Iterator[StateRecord]:
        """Load what the host has of a sequence while every free slot of the device is taken."""
        driver = self._driver
        match = self._match(sequence)
        if not match.host_hit_length:
            return
        taken = driver.slots.take(driver.slots.room())
        request = TreeRequest(f"load {sequence.name}")
        request.take_match(match)
        driver.tree.load_back(match, request)
        yield from self._ledger.read_locks(f"loading_{sequence.name}")
        driver.acknowledge()
        for state in request.states_taken():
            driver.return_state(state)
        if taken is not None:
            driver.slots.return_slots(taken)
        yield from self._ledger.read(f"loaded_{sequence.name}", is_final=True)

    def _match(self, sequence: TokenSequence) -> Any:  # noqa: ANN401 - of the release
        key = self._driver.tree.key(sequence.raw_tokens, sequence.namespace)
        return self._driver.tree.match(key, None)

    def _reserve(self, pool: CountedPool) -> None:
        """Take the slots of a host pool but for those of two sequences."""
        if pool.side == "device":
            return
        spare = _FIT if pool.component == MAMBA else _FIT * 2 * self._driver.part
        free = int(pool.allocator.available_size())
        if free > spare:
            page = pool.page(self._stack)
            slots = pool.allocator.alloc((free - spare) // page * page)
            self._ledger.held[pool.side, pool.pool] += slots.numel()
            self._reserved.append((pool, slots))

    def _sequence(self, number: int) -> TokenSequence:
        parts = {"one": _PART + 2 * number, "other": _PART + 2 * number + 1}
        return self._driver.sequence(f"pressure_{number}", **parts)
