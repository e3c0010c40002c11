"""Round trip of rows through a tree whose device pools a release made itself, in shared memory.

A request's pages are backed up, evicted from the device and loaded into other slots. In between the
host pools run full, are freed in another order than they were taken, and run full again: where
several share an arena, the pages that the tree holds move within it. While they are full another
request comes, and the tree has to give up the pages of the first one to back it up.
"""

from collections.abc import Iterator
from typing import Any

import torch

from traces.schema.life import PoolBalance
from traces.schema.model import DigestRecord, PoolSide, StepRecord, TreeMatch
from traces.schema.slot_ranges import sorted_slot_ranges
from traces.targets.common.content import overwrite, pattern, row_bytes, row_content
from traces.targets.common.round_trip import RoundTripComparison
from traces.targets.common.rows import launch_write
from traces.targets.sglang.assembly import entries_of
from traces.targets.sglang.configured_hosts import FullHosts, given
from traces.targets.sglang.configured_rows import (
    MAMBA,
    SWA,
    bytes_like,
    memory_of,
    registrations,
    row_groups,
    share_memory,
    storages,
)
from traces.targets.sglang.configured_stacks import ConfiguredStack
from traces.targets.sglang.geometry import WINDOW
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.tree_client import EVICT_ALL, TreeClient, TreeRequest, evict_host
from traces.targets.sglang.tree_driver import ACKNOWLEDGE_ROUNDS

_PAGES = 3
_AUTHOR, _NEXT, _POISON = "request", "next request", "evicted"
_FIRST_TOKENS = {_AUTHOR: 1000, _NEXT: 2000}
_COUNTS = {"KV": "full_available_size", "SWA": "swa_available_size"}


def is_playable(stack: ConfiguredStack) -> bool:
    """Return whether the pools of a stack share memory, and its tree can be told its policy."""
    return stack.complete_tree is not None and share_memory(stack.geometry, stack.made)


class ConfiguredTrip:
    """One round trip through a stack, none of whose slots is in use."""

    def __init__(self, stack: ConfiguredStack, *, device: ScriptDevice, step: str) -> None:
        self._stack = stack
        self._device = device
        self._step = step
        self._requests, self._allocator, _ = stack.made.values()
        self._tree = TreeClient(stack.cache)
        self._page = stack.page_size
        self._token_num = _PAGES * self._page
        self._groups = row_groups(stack.geometry, stack.made)
        self._hosts = FullHosts(stack.group)

    def run(self) -> Iterator[StepRecord]:
        """Play it; yield a comparison for every kind of rows, then what every pool has free.

        Raises:
            StageError: the release hands out nothing where it has room.
            Exception: any error of the release.
        """
        assert self._stack.complete_tree is not None, "is_playable says so"
        self._stack.complete_tree()
        if hasattr(self._stack.cache, "load_back_threshold"):
            self._stack.cache.load_back_threshold = 1
        pools = {name: one.device_pool for name, one in entries_of(self._stack.group).items()}
        yield from registrations(pools, storages(self._groups), step=self._step)
        free = self._free()
        self._hosts.take_pages()
        self._insert(_AUTHOR)
        self._evict()
        self._hosts.run_full()
        held = self._take_slots(self._page)
        yield from self._load()
        self._allocator.free(held)
        self._evict()
        self._insert(_NEXT)
        self._evict()
        match = self._tree.match(self._key(_NEXT), None)
        yield self._matched(_NEXT, int(match.host_hit_length), phase="evicted")
        self._hosts.return_slots()
        evict_host(self._stack.cache, self._stack.group)
        self._acknowledge()
        yield from self._balances(free)

    def _insert(self, author: str) -> None:
        """Insert tokens as two requests do, so that the tree backs them up by its policy."""
        slots = self._take_slots(self._token_num)
        for known in (0, len(slots)):
            state = self._take_state()
            if not known:
                self._write(slots, state, author)
            result = self._tree.insert(self._key(author), slots, state, known=known)
            if state is not None and result.mamba_exist:
                self._requests.mamba_allocator.free(state)
            self._acknowledge()

    def _write(self, slots: torch.Tensor, state: torch.Tensor | None, author: str) -> None:
        """Launch writes of the rows of all tokens, and of a state."""
        with self._device.pause_interception():
            where = self._places(slots, [] if state is None else [state])
        for group in self._groups:
            for own in where[group.domain]:
                for buffer in group.buffers:
                    content = row_content(buffer, own, author=author)
                    launch_write(self._device, buffer, own, content)

    def _load(self) -> Iterator[DigestRecord]:
        """Load the tokens back for a request, and compare the rows that it reads."""
        memories = storages(self._groups)
        with self._device.pause_interception():
            for number, memory in enumerate(memories):
                overwrite(memory, pattern(f"{_POISON}/{number}", (1, memory.nbytes)))
            wanted = [memory.clone() for memory in memories]
        requests = TreeRequest("load"), TreeRequest("read")
        match = self._tree.match(self._key(_AUTHOR), None)
        requests[0].take_match(match)
        if match.host_hit_length:
            self._tree.load_back(match, requests[0])
        self._acknowledge()
        match = self._tree.match(self._key(_AUTHOR), requests[1])
        self._device.synchronize()
        with self._device.pause_interception():
            slots = self._tree.device_slots(match)
            states = [state for request in requests for state in request.states()]
            yield self._matched(_AUTHOR, len(slots), phase="loaded")
            yield from self._compare(self._places(slots, states), wanted)
        for state in (state for request in requests for state in request.states_taken()):
            self._requests.mamba_allocator.free(state)

    def _matched(self, sequence: str, found: int, *, phase: str) -> TreeMatch:
        """Return the record of a match that found so many tokens where they must be."""
        missing = range(found, self._token_num)
        return TreeMatch(
            step=self._step,
            sequence=sequence,
            phase=phase,
            found=not missing,
            missing=sorted_slot_ranges(missing),
            elsewhere=sorted_slot_ranges(()),
        )

    def _compare(
        self, where: dict[str, list[torch.Tensor]], wanted: list[torch.Tensor]
    ) -> Iterator[DigestRecord]:
        """Yield a record for each plane; ``wanted`` is the memory as it was before the load.

        A byte belongs to rows of several kinds of slots: it may change where any of them is loaded.
        """
        memories = storages(self._groups)
        for group in self._groups:
            for buffer in group.buffers:
                place = memory_of(buffer, memories)
                now, then = bytes_like(buffer, memories[place]), bytes_like(buffer, wanted[place])
                for slots in where[group.domain]:
                    rows = buffer.rows_of(slots)
                    then[rows] = now[rows]
        for group in self._groups:
            planes = {buffer.plane: RoundTripComparison() for buffer in group.buffers}
            for buffer in group.buffers:
                comparison, now = planes[buffer.plane], row_bytes(buffer.tensor)
                for slots in where[group.domain]:
                    written = row_content(buffer, slots, author=_AUTHOR)
                    # The next token reads the last window only.
                    first = self._first_read(len(slots)) if group.domain == SWA else 0
                    rows = buffer.rows_of(slots[first:])
                    own = written[first // buffer.slots_per_row :]
                    comparison.compare_rows(buffer, rows, served=now[rows], written=own)
                rest = bytes_like(buffer, wanted[memory_of(buffer, memories)])
                comparison.compare_rest(buffer, rest, loaded=[])
            for plane, comparison in planes.items():
                yield comparison.record(step=self._step, pool=group.domain, plane=plane)

    def _first_read(self, length: int) -> int:
        """Return the first token whose window the next token reads, at the start of its page."""
        return max(0, length - WINDOW) // self._page * self._page

    def _places(
        self, slots: torch.Tensor, states: list[torch.Tensor]
    ) -> dict[str, list[torch.Tensor]]:
        """Return the places of slots, in one piece, or of states, in one each, by their kind."""
        return {
            group.domain: [
                group.places_of(own) for own in (states if group.domain == MAMBA else [slots])
            ]
            for group in self._groups
        }

    def _key(self, author: str) -> Any:  # noqa: ANN401 - the release's own class
        first = _FIRST_TOKENS[author]
        return self._tree.key(list(range(first, first + self._token_num)), None)

    def _take_slots(self, need: int) -> torch.Tensor:
        return given("KV", self._allocator.alloc(need))

    def _take_state(self) -> torch.Tensor | None:
        if all(group.domain != MAMBA for group in self._groups):
            return None
        return given(MAMBA, self._requests.mamba_allocator.alloc(1))

    def _acknowledge(self) -> None:
        """Wait until all work is done, and have the tree process it."""
        for _ in range(ACKNOWLEDGE_ROUNDS):
            self._device.synchronize()
            self._tree.poll()
        self._device.synchronize()

    def _evict(self) -> None:
        self._tree.evict(EVICT_ALL, EVICT_ALL)
        self._acknowledge()

    def _free(self) -> dict[tuple[PoolSide, str], int]:
        """Return how many slots every pool has free, by side and name."""
        found: dict[tuple[PoolSide, str], int] = {}
        for group in self._groups:
            owner, count = self._allocator, _COUNTS.get(group.domain, "")
            if group.domain == MAMBA:
                owner = self._requests.mamba_allocator
            # What is free of both kinds together depends on where holes lie.
            found["device", group.domain] = getattr(owner, count, owner.available_size)()
        found |= {("host", name): number for name, number in self._hosts.free().items()}
        return {key: int(number) for key, number in found.items()}

    def _balances(self, before: dict[tuple[PoolSide, str], int]) -> Iterator[StepRecord]:
        """Yield a record for each pool: all that was free before is free again."""
        for (side, pool), number in self._free().items():
            yield PoolBalance(
                step=self._step,
                moment="freed",
                pool=pool,
                side=side,
                total=before[side, pool],
                free=number,
                cached=0,
                held=0,
                evictable=None,
                protected=None,
                is_final=True,
            )
