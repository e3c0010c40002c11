"""Driver of a release's tree: what a scheduler does with it, one call after the other."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.errors import StageError
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.token_slots import TokenSlots
from traces.targets.sglang.tree_client import EVICT_ALL, TreeClient, evict_host

MAMBA, SWA, KV = "MAMBA", "SWA", "KV"
# Tokens of the shared half, and of the other, at least.
_PART_MIN = 8
# One starts the deferred writes, one finds them finished.
ACKNOWLEDGE_ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSequence:
    """Tokens to insert, in parts of equal length."""

    name: str  # ``first``, ``second``
    tokens: list[int]
    parts: tuple[str, ...]  # authors of the content of the parts
    namespace: str | None = None  # of the request, such as an adapter; None for none
    # The token behind the last one, where a tree's units are pairs of neighbours.
    boundary: tuple[int, ...] = ()

    @property
    def raw_tokens(self) -> list[int]:
        """All tokens of a request that has these units."""
        return [*self.tokens, *self.boundary]

    @property
    def units(self) -> list[Any]:
        """The units that a tree compares and hashes, one a slot: tokens, or pairs of neighbours."""
        raw = self.raw_tokens
        return list(pairwise(raw)) if self.boundary else raw


class TreeDriver:
    """Drives the tree of one stack: inserts, evicts, locks, and has finished work processed.

    Attributes:
        part: tokens of a part of a sequence, whole pages.
        rows: the content of the rows of tokens.
        slots: allocates slots for tokens.
    """

    def __init__(
        self,
        stack: AssembledStack,
        *,
        device: ScriptDevice,
        rows: RowContents,
        transfers: ControllerDriver,
    ) -> None:
        self._stack = stack
        self._cache = stack.cache
        self._device = device
        self.rows = rows
        self._transfers = transfers
        self.tree = TreeClient(stack.cache)
        self.slots = TokenSlots(stack)
        self.part = -(-_PART_MIN // stack.page_size) * stack.page_size
        self.domains = {plane.domain.name for plane in rows.planes}

    def sequence(self, name: str, **parts: int) -> TokenSequence:
        """Return a sequence; ``parts`` are numbers by author, and equal numbers equal units.

        Where units are pairs, a part begins with the token that ends the last pair of the part
        before it: sequences with equal parts share that pair, too.
        """
        tokens: list[int] = []
        for number in parts.values():
            first = tokens[-1] + 1 if tokens and self.tree.has_pairs else number * 1000
            tokens += [first, *range(number * 1000 + 1, number * 1000 + self.part)]
        boundary = (tokens[-1] + 1,) if self.tree.has_pairs else ()
        return TokenSequence(name=name, tokens=tokens, parts=tuple(parts), boundary=boundary)

    def insert(self, sequence: TokenSequence) -> None:
        """Insert a sequence as a request does that computes what the tree lacks of it."""
        key = self.tree.key(sequence.raw_tokens, sequence.namespace)
        found, own = self._computed(key, len(sequence.tokens))
        with self._device.pause_interception():
            slots = torch.cat([found, own])
        state = self.take_state()
        self._write(sequence, slots, state, known=len(found))
        self._insert_once(key, slots, state, known=len(found))

    def insert_again(self, sequence: TokenSequence) -> None:
        """Insert a sequence that the device has, as the next request with its tokens does."""
        key = self.tree.key(sequence.raw_tokens, sequence.namespace)
        again = self.tree.device_slots(self.tree.match(key, None))
        self._insert_once(key, again, self.take_state(), known=len(again))

    def evict_device(self) -> dict[str, int]:
        """Ask the tree to free every device slot; return what it counts."""
        return self.tree.evict(EVICT_ALL, EVICT_ALL)

    def evict_host(self) -> None:
        """Ask the tree to free every host slot, through the callbacks of the pool entries."""
        evict_host(self._cache, self._stack.group)

    @contextmanager
    def locked(self, node: Any) -> Iterator[None]:  # noqa: ANN401 - a node of the release
        """Lock a node in the block, as a running request does; the end is that of an abort."""
        found = self._cache.inc_lock_ref(node)
        receipt = getattr(found, "to_dec_params", lambda: None)()
        yield
        takes_receipt = len(inspect.signature(self._cache.dec_lock_ref).parameters) > 1
        self._cache.dec_lock_ref(node, *([receipt] if takes_receipt else []))

    def overwrite_free(self, author: str) -> None:
        """Write rows into every free slot of the device, and free them again.

        A slot that a copy in flight still uses and that the tree freed too early is written.
        """
        page = self._stack.page_size
        taken = self.slots.take(self.slots.room() // page * page)
        if taken is None or not len(taken):
            return
        with self._device.pause_interception():
            where = self.slots_of_tokens(taken[taken < self.rows.slot_limit(KV)])
        states = list(self._free_states())
        if MAMBA in self.domains:
            own = self.rows.on_host({str(i): state for i, state in enumerate(states)}).values()
            where[MAMBA] = torch.cat([torch.zeros(0, dtype=torch.int64), *own])
        self.rows.write(where, author)
        self.slots.return_slots(taken)
        for state in states:
            self.return_state(state)

    def flush(self) -> None:
        """Empty tree and pools, as a server does that flushes its cache.

        The tree gives up what copies on their way bring, so that nobody uses what these read of a
        pool that is cleared: they are over before.
        """
        self._cache.reset()
        self._device.synchronize()
        for pool in (self._stack.req_to_token_pool, self._stack.allocator):
            pool.clear()

    def take(self, need: int) -> torch.Tensor:
        """Take slots for tokens.

        Raises:
            StageError: there is no room.
        """
        slots = self.slots.take(need)
        if slots is None:
            raise StageError(
                f"tree: an evicted device must have room; expected {need} slots, got none"
            )
        return slots

    def take_state(self) -> torch.Tensor | None:
        """Take a state slot, once states are evicted where none is free; None without states."""
        if MAMBA not in self.domains:
            return None
        state = self._transfers.try_take_one(MAMBA)
        if state is None:
            self.tree.evict(0, 1)
            self.acknowledge()
            state = self._transfers.take_one(MAMBA)
        return state

    def return_state(self, state: torch.Tensor) -> None:
        """Free a state slot."""
        self._transfers.return_slots({MAMBA: state})

    def slots_of_tokens(self, slots: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the slots that hold rows of tokens, by domain, on the host."""
        found = {KV: slots.cpu()}
        if SWA in self.domains:
            found[SWA] = self.slots.windows(slots).cpu()
        return found

    def poll(self) -> None:
        """Trigger deferred work and process finished work of the tree, as schedulers do."""
        self.tree.poll()

    def acknowledge(self) -> None:
        """Wait until all work is done, and have the tree process it."""
        for _ in range(ACKNOWLEDGE_ROUNDS):
            self._device.synchronize()
            self.poll()
        self._device.synchronize()

    def _free_states(self) -> Iterator[torch.Tensor]:
        """Take every free state slot."""
        while MAMBA in self.domains:
            state = self._transfers.try_take_one(MAMBA)
            if state is None:
                return
            yield state

    def _computed(self, key: Any, length: int) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ANN401
        """Return the device slots of a key's known tokens, and new slots for the rest.

        Everything is evicted first where there is no room for the rest and a page more: once, and
        again when the copies are over that kept nodes from it.
        """
        found = self.tree.device_slots(self.tree.match(key, None))
        for _ in range(2):
            if self.slots.has_room(length - len(found) + self._stack.page_size):
                break
            self.evict_device()
            self.acknowledge()
            found = self.tree.device_slots(self.tree.match(key, None))
        return found, self.take(length - len(found))

    def _insert_once(
        self, key: object, slots: torch.Tensor, state: torch.Tensor | None, *, known: int
    ) -> None:
        """Insert, and free the slots of known tokens where the tree leaves that to its caller."""
        free = self.slots.full_num()
        result = self.tree.insert(key, slots, state, known=known)
        if result.prefix_len > known and self.slots.full_num() == free:
            kept = self.tree.device_slots(self.tree.match(key, None))
            with self._device.pause_interception():
                double = slots[: len(kept)][slots[: len(kept)] != kept]
            if len(double):
                self.slots.return_slots(double)
        if state is not None and result.mamba_exist:
            self.return_state(state)

    def _write(
        self,
        sequence: TokenSequence,
        slots: torch.Tensor,
        state: torch.Tensor | None,
        *,
        known: int,
    ) -> None:
        """Launch writes of the tokens' rows after the first ``known`` ones, and of their state."""
        with self._device.pause_interception():
            where = self.slots_of_tokens(slots)
        for number, author in enumerate(sequence.parts):
            first, stop = max(known, number * self.part), (number + 1) * self.part
            part = {name: own[first:stop] for name, own in where.items()}
            if state is not None:
                part[MAMBA] = self.rows.on_host({MAMBA: state})[MAMBA]
            if first < stop:
                self.rows.write(part, author)
