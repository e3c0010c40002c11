"""Script for a release's own tree: insert, back up, match, evict, match on the host, load back.

Two token sequences with a common prefix go through the tree by its own policy; only the tree calls
the controller. The slots that a request gets from a match, the window behind them and the state it
may read are compared with the content that was written for its tokens.
"""

from collections.abc import Iterator
from typing import Any

import torch

from traces.schema.model import DigestRecord, TreeMatch
from traces.schema.slot_ranges import sorted_slot_ranges
from traces.targets.common.content import RowBuffer, row_bytes
from traces.targets.common.planes import Plane
from traces.targets.common.round_trip import RoundTripComparison
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.tree_client import TreeRequest
from traces.targets.sglang.tree_driver import KV, MAMBA, SWA, TokenSequence, TreeDriver

STEP = "tree"
_CALLS = ("match_prefix", "insert", "evict")
_TIERED_CALLS = ("init_load_back", "ready_to_load_host_cache", "check_hicache_events")


def is_tree(cache: Any) -> bool:  # noqa: ANN401 - a cache of the release, or a substitute
    """Return whether tokens can be inserted into a cache and matched."""
    return all(_has_method(cache, name) for name in _CALLS)


class TreeScript:
    """Drives the tree of one stack, all of whose slots are free.

    ``notes`` has the reasons why it was not driven, a line each; ``driver`` goes on with the tree.
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
        self._rows = rows
        self._transfers = transfers
        self.driver = TreeDriver(stack, device=device, rows=rows, transfers=transfers)
        self._tree = self.driver.tree
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
        sequence = self.driver.sequence("third", shared=4, one=5)
        yield from self._insert(sequence)
        if self._tree.has_limits():
            yield self._match_in_part(sequence)

    def _match_in_part(self, sequence: TokenSequence) -> TreeMatch:
        """Match the first half of a node with a key that has all of its tokens, and a limit."""
        limit = self.driver.part + len(sequence.boundary)
        key = self._tree.key(sequence.raw_tokens, sequence.namespace, limit=limit)
        match = self._tree.match(key, None)
        return self._compare_match(sequence, match, phase="in part", is_on_device=True)

    def _skip_reason(self) -> str:
        lacking = [name for name in _TIERED_CALLS if not _has_method(self._cache, name)]
        if lacking:
            return f"has no {lacking[0]}"
        if self._stack.complete_tree is None:
            return "was attached to its stack, and has nothing that tells it its policy"
        other = self.driver.domains - {KV, SWA, MAMBA}
        return f"hands out slots of {min(other)} by itself" if other else ""

    def _prepare(self) -> None:
        """Set the tree's policy, and have it load even a few pages."""
        assert self._stack.complete_tree is not None
        self._stack.complete_tree()
        if hasattr(self._cache, "load_back_threshold"):
            self._cache.load_back_threshold = 1

    def _sequences(self) -> tuple[TokenSequence, TokenSequence]:
        return (
            self.driver.sequence("first", shared=1, one=2),
            self.driver.sequence("second", shared=1, other=3),
        )

    def _insert(self, sequence: TokenSequence) -> Iterator[TreeMatch]:
        """Insert a sequence as a request does that lacks a part of it, then insert it again."""
        self.driver.insert(sequence)
        self.driver.acknowledge()
        match = self._tree.match(self._tree.key(sequence.raw_tokens, sequence.namespace), None)
        yield self._compare_match(sequence, match, phase="inserted", is_on_device=True)
        self.driver.insert_again(sequence)
        self.driver.acknowledge()

    def _round_trip(self, sequences: tuple[TokenSequence, TokenSequence]) -> Iterator[TreeMatch]:
        """Evict everything, poison the device, load the second sequence back and compare.

        It loads two nodes: the tree split the first sequence where the second one diverges.
        """
        self.driver.evict_device()
        self.driver.acknowledge()
        held = self._hold()
        self._rows.poison(STEP)
        before = self._rows.snapshot()
        first, sequence = sequences
        match = self._tree.match(self._tree.key(first.raw_tokens, first.namespace), None)
        yield self._compare_match(first, match, phase="evicted", is_on_device=False)
        match = self._tree.match(self._tree.key(sequence.raw_tokens, sequence.namespace), None)
        yield self._compare_match(sequence, match, phase="evicted", is_on_device=False)
        loading, reading = TreeRequest("load"), TreeRequest("read")
        loading.take_match(match)
        if match.host_hit_length:
            self._tree.load_back(match, loading)
        self.driver.acknowledge()
        match = self._tree.match(self._tree.key(sequence.raw_tokens, sequence.namespace), reading)
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
        where = self.driver.slots_of_tokens(slots)
        states = [state.cpu() for request in requests for state in request.states()]
        for plane, olds in zip(self._rows.planes, before, strict=True):
            comparison = self._comparisons[plane.name]
            for buffer, old in zip(plane.layers, olds, strict=True):
                now = row_bytes(buffer.tensor)
                written = self._expected_rows(plane, buffer, sequence)
                if plane.domain.name == MAMBA:
                    # Only the held slots are known to be foreign; the tree owns the others.
                    loaded = torch.ones(len(now), dtype=torch.bool)
                    loaded[held[MAMBA].cpu()] = False
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
        if plane.domain.name == MAMBA:
            return self._rows.content(plane, buffer, torch.zeros(1).long(), sequence.parts[1])
        tokens = torch.arange(self.driver.part)
        halves = [self._rows.content(plane, buffer, tokens, author) for author in sequence.parts]
        return torch.cat(halves)

    def _first_read(self, plane: Plane, length: int) -> int:
        """Return the first token whose rows the next token reads, at the start of its page."""
        if plane.domain.name != SWA:
            return 0
        page = self._stack.page_size
        return max(0, length - self._stack.window) // page * page

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

    def _hold(self) -> dict[str, torch.Tensor]:
        """Take a page, so that the next load goes to other slots."""
        held = {KV: self.driver.take(self._stack.page_size)}
        state = self.driver.take_state()
        return held if state is None else {**held, MAMBA: state}

    def _return_held(self, held: dict[str, torch.Tensor]) -> None:
        self.driver.slots.return_slots(held[KV])
        if MAMBA in held:
            self._transfers.return_slots({MAMBA: held[MAMBA]})

    @staticmethod
    def _states_held(requests: tuple[TreeRequest, ...]) -> dict[str, torch.Tensor]:
        taken = [state for request in requests for state in request.states_taken()]
        return {MAMBA: torch.cat(taken)} if taken else {}


def _has_method(cache: Any, name: str) -> bool:  # noqa: ANN401 - a cache of the release, or a substitute
    return callable(getattr(cache, name, None))
