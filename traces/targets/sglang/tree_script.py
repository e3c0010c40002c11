"""Script for a release's own tree: insert, back up, match, evict, match on the host, load back.

Two token sequences with a common prefix go through the tree by its own policy; only the tree calls
the controller. The slots that a request gets from a match, the window behind them and the state it
may read are compared with the content that was written for its tokens.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch

from traces.schema.model import DigestRecord, TreeMatch
from traces.schema.slot_ranges import sorted_slot_ranges
from traces.targets.common.content import RowBuffer, row_bytes
from traces.targets.common.planes import Plane
from traces.targets.common.round_trip import RoundTripComparison
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.device_pools import WINDOW
from traces.targets.sglang.errors import StageError
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.token_slots import TokenSlots
from traces.targets.sglang.tree_client import TreeClient, TreeRequest

STEP = "tree"
_CALLS = ("match_prefix", "insert", "evict")
_TIERED_CALLS = ("init_load_back", "ready_to_load_host_cache", "check_hicache_events")
# Tokens of the shared half, and of the other, at least.
_PART_MIN = 8
_EVICT_ALL = 1 << 20
# One starts the deferred writes, one finds them finished.
_ACKNOWLEDGE_ROUNDS = 2
_KV, _SWA, _MAMBA = "KV", "SWA", "MAMBA"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSequence:
    """Tokens to insert."""

    name: str  # ``first``, ``second``
    tokens: list[int]
    parts: tuple[str, str]  # authors of the content of the two halves


def is_tree(cache: Any) -> bool:  # noqa: ANN401 - a cache of the release, or a substitute
    """Return whether tokens can be inserted into a cache and matched."""
    return all(_has_method(cache, name) for name in _CALLS)


class TreeScript:
    """Drives the tree of one stack, all of whose slots are free.

    ``notes`` has the reasons why it was not driven, a line each.
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
        self._tree = TreeClient(stack.cache)
        self._device = device
        self._rows = rows
        self._transfers = transfers
        self._slots = TokenSlots(stack)
        self._part = -(-_PART_MIN // stack.page_size) * stack.page_size
        self._domains = {plane.domain.name for plane in rows.planes}
        self._comparisons = {plane.name: RoundTripComparison() for plane in rows.planes}
        self.notes: list[str] = []

    def run(self) -> Iterator[DigestRecord]:
        """Run the script; yield comparisons of matches, then of the loaded rows."""
        reason = self._skip_reason()
        if reason:
            self.notes.append(f"not played: {type(self._cache).__name__} {reason}")
            return
        self._prepare()
        sequences = self._sequences()
        for sequence in sequences:
            yield from self._insert(sequence)
        yield from self._round_trip(sequences)
        for plane in self._rows.planes:
            comparison = self._comparisons[plane.name]
            yield comparison.record(step=STEP, pool=plane.pool, plane=plane.plane)

    def _skip_reason(self) -> str:
        lacking = [name for name in _TIERED_CALLS if not _has_method(self._cache, name)]
        if lacking:
            return f"has no {lacking[0]}"
        if self._stack.complete_tree is None:
            return "was attached to its stack, and has nothing that tells it its policy"
        other = self._domains - {_KV, _SWA, _MAMBA}
        return f"hands out slots of {min(other)} by itself" if other else ""

    def _prepare(self) -> None:
        """Set the tree's policy, and have it load even a few pages."""
        assert self._stack.complete_tree is not None
        self._stack.complete_tree()
        if hasattr(self._cache, "load_back_threshold"):
            self._cache.load_back_threshold = 1

    def _sequences(self) -> tuple[TokenSequence, TokenSequence]:
        part = self._part
        shared, one, other = (
            list(range(number * 1000, number * 1000 + part)) for number in (1, 2, 3)
        )
        return (
            TokenSequence(name="first", tokens=shared + one, parts=("shared", "one")),
            TokenSequence(name="second", tokens=shared + other, parts=("shared", "other")),
        )

    def _insert(self, sequence: TokenSequence) -> Iterator[TreeMatch]:
        """Insert a sequence as a request does that lacks a part of it, then insert it again."""
        key = self._tree.key(sequence.tokens)
        found, own = self._computed(key, len(sequence.tokens))
        with self._device.pause_interception():
            slots = torch.cat([found, own])
        state = self._take_state()
        self._write(sequence, slots, state, known=len(found))
        self._insert_once(key, slots, state, known=len(found))
        self._acknowledge()
        match = self._tree.match(key, None)
        yield self._compare_match(sequence, match, phase="inserted", is_on_device=True)
        again = self._tree.device_slots(match)
        self._insert_once(key, again, self._take_state(), known=len(again))
        self._acknowledge()

    def _insert_once(
        self, key: object, slots: torch.Tensor, state: torch.Tensor | None, *, known: int
    ) -> None:
        """Insert, and free the slots of known tokens where the tree leaves that to its caller."""
        free = self._slots.full_num()
        result = self._tree.insert(key, slots, state, known=known)
        if result.prefix_len > known and self._slots.full_num() == free:
            kept = self._tree.device_slots(self._tree.match(key, None))
            with self._device.pause_interception():
                double = slots[: len(kept)][slots[: len(kept)] != kept]
            if len(double):
                self._slots.return_slots(double)
        if state is not None and result.mamba_exist:
            self._transfers.return_slots({_MAMBA: state})

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
            where = self._slots_of_tokens(slots)
        for number, author in enumerate(sequence.parts):
            first = max(known, number * self._part)
            part = {name: own[first : (number + 1) * self._part] for name, own in where.items()}
            if state is not None:
                part[_MAMBA] = self._rows.on_host({_MAMBA: state})[_MAMBA]
            if first < (number + 1) * self._part:
                self._rows.write(part, author)

    def _round_trip(self, sequences: tuple[TokenSequence, TokenSequence]) -> Iterator[TreeMatch]:
        """Evict everything, poison the device, load the second sequence back and compare.

        It loads two nodes: the tree split the first sequence where the second one diverges.
        """
        self._tree.evict(_EVICT_ALL, _EVICT_ALL)
        self._acknowledge()
        held = self._hold()
        self._rows.poison(STEP)
        before = self._rows.snapshot()
        first, sequence = sequences
        match = self._tree.match(self._tree.key(first.tokens), None)
        yield self._compare_match(first, match, phase="evicted", is_on_device=False)
        match = self._tree.match(self._tree.key(sequence.tokens), None)
        yield self._compare_match(sequence, match, phase="evicted", is_on_device=False)
        loading, reading = TreeRequest("load"), TreeRequest("read")
        loading.take_match(match)
        if match.host_hit_length:
            self._tree.load_back(match, loading)
        self._acknowledge()
        match = self._tree.match(self._tree.key(sequence.tokens), reading)
        self._device.synchronize()
        yield self._compare_match(sequence, match, phase="loaded", is_on_device=True)
        with self._device.pause_interception():
            slots = self._tree.device_slots(match)
            self._compare(sequence, slots, (loading, reading), before, held)
        self._transfers.return_slots(self._states_held((loading, reading)))
        self._return_held(held)

    def _compare(
        self,
        sequence: TokenSequence,
        slots: torch.Tensor,
        requests: tuple[TreeRequest, TreeRequest],
        before: list[list[torch.Tensor]],
        held: dict[str, torch.Tensor],
    ) -> None:
        """Record rows with other content than was written, and changed rows outside the match."""
        where = self._slots_of_tokens(slots)
        states = [state.cpu() for request in requests for state in request.states()]
        for plane, olds in zip(self._rows.planes, before, strict=True):
            comparison = self._comparisons[plane.name]
            for buffer, old in zip(plane.layers, olds, strict=True):
                now = row_bytes(buffer.tensor)
                written = self._expected_rows(plane, buffer, sequence)
                if plane.domain.name == _MAMBA:
                    # Only the held slots are known to be foreign; the tree owns the others.
                    loaded = torch.ones(len(now), dtype=torch.bool)
                    loaded[held[_MAMBA].cpu()] = False
                    pairs = [(state, written) for state in states]
                else:
                    own = where[plane.domain.name]
                    loaded = buffer.rows_of(own)
                    first = self._first_read(plane, len(own))
                    wanted = written[first // buffer.slots_per_row : len(own)]
                    pairs = [(own[first:], wanted)]
                for own, wanted in pairs:
                    rows = buffer.rows_of(own)
                    comparison.compare_rows(
                        buffer, rows, served=now[rows], written=wanted[: len(rows)]
                    )
                comparison.compare_rest(buffer, old, loaded=[loaded])

    def _expected_rows(
        self, plane: Plane, buffer: RowBuffer, sequence: TokenSequence
    ) -> torch.Tensor:
        """Return the content of the rows of all tokens; a state has its last writer's."""
        if plane.domain.name == _MAMBA:
            return self._rows.content(plane, buffer, torch.zeros(1).long(), sequence.parts[1])
        tokens = torch.arange(self._part)
        halves = [self._rows.content(plane, buffer, tokens, author) for author in sequence.parts]
        return torch.cat(halves)

    def _first_read(self, plane: Plane, length: int) -> int:
        """Return the first token whose rows the next token reads, at the start of its page."""
        if plane.domain.name != _SWA:
            return 0
        page = self._stack.page_size
        return max(0, length - WINDOW) // page * page

    def _slots_of_tokens(self, slots: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the slots that hold rows of tokens, by domain, on the host."""
        found = {_KV: slots.cpu()}
        if _SWA in self._domains:
            found[_SWA] = self._slots.windows(slots).cpu()
        return found

    def _compare_match(
        self,
        sequence: TokenSequence,
        match: Any,  # noqa: ANN401
        *,
        phase: str,
        is_on_device: bool,
    ) -> TreeMatch:
        """Return which tokens a match missed, and which it found on the other side, by position."""
        device, host = len(self._tree.device_slots(match)), int(match.host_hit_length)
        on_device = set(range(device))
        on_host = set(range(device, device + host))
        here, there = (on_device, on_host) if is_on_device else (on_host, on_device)
        missing = set(range(len(sequence.tokens))) - here
        return TreeMatch(
            step=STEP,
            sequence=sequence.name,
            phase=phase,
            found=not missing,
            missing=sorted_slot_ranges(missing),
            elsewhere=sorted_slot_ranges(there),
        )

    def _computed(self, key: Any, length: int) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ANN401
        """Return the device slots of a key's known tokens, and new slots for the rest.

        Everything is evicted first where there is no room for the rest and a page more.
        """
        found = self._tree.device_slots(self._tree.match(key, None))
        if not self._slots.has_room(length - len(found) + self._stack.page_size):
            self._tree.evict(_EVICT_ALL, _EVICT_ALL)
            self._acknowledge()
            found = self._tree.device_slots(self._tree.match(key, None))
        return found, self._take(length - len(found))

    def _take(self, need: int) -> torch.Tensor:
        slots = self._slots.take(need)
        if slots is None:
            raise StageError(
                f"tree: an evicted device must have room; expected {need} slots, got none"
            )
        return slots

    def _take_state(self) -> torch.Tensor | None:
        return self._transfers.take_one(_MAMBA) if _MAMBA in self._domains else None

    def _hold(self) -> dict[str, torch.Tensor]:
        """Take a page, so that the next load goes to other slots."""
        held = {_KV: self._take(self._stack.page_size)}
        state = self._take_state()
        return held if state is None else {**held, _MAMBA: state}

    def _return_held(self, held: dict[str, torch.Tensor]) -> None:
        self._slots.return_slots(held[_KV])
        if _MAMBA in held:
            self._transfers.return_slots({_MAMBA: held[_MAMBA]})

    @staticmethod
    def _states_held(requests: tuple[TreeRequest, TreeRequest]) -> dict[str, torch.Tensor]:
        own = [request.mamba_pool_idx for request in requests]
        taken = [state.reshape(1) for state in own if state is not None]
        return {_MAMBA: torch.cat(taken)} if taken else {}

    def _acknowledge(self) -> None:
        """Trigger deferred work and process finished work of the tree, as schedulers do.

        Pipeline rank 0 counts finished operations itself; other ranks receive the number from the
        rank before them, which does not run here.
        """
        cache, is_later = self._cache, getattr(self._cache, "pp_rank", 0)
        for _ in range(_ACKNOWLEDGE_ROUNDS):
            self._device.synchronize()
            with patch.object(cache, "pp_rank", 0) if is_later else nullcontext():
                cache.check_hicache_events()
        self._device.synchronize()


def _has_method(cache: Any, name: str) -> bool:  # noqa: ANN401 - a cache of the release, or a substitute
    return callable(getattr(cache, name, None))
