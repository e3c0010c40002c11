"""Requests of a native scenario: rows that attention writes, and their tokens in the cache."""

from array import array
from collections.abc import Mapping

import torch

from assembler import PoolName
from assembler.cache.keys import RadixKey, token_ids
from assembler.cache.prefixes import InsertParams, MatchPrefixParams
from assembler.device import Device
from assembler.names import ComponentType
from traces.targets.common.content import row_content
from traces.targets.common.rows import launch_write
from traces.targets.native.builders import Cache
from traces.targets.native.device_side import NativeDevicePools
from traces.targets.native.errors import NativeScenarioError
from traces.targets.native.round_trip import BuffersByPool, BytesByPool, WrittenNode


class RequestWriter:
    """Runs requests of one namespace on a cache: match, write what is missing, insert."""

    def __init__(
        self,
        cache: Cache,
        *,
        device: Device,
        pools: NativeDevicePools,
        rows: BuffersByPool,
        namespace: str | None,
    ) -> None:
        self._cache = cache
        self._device = device
        self._pools = pools
        self._rows = rows
        self._namespace = namespace
        self._next_token = 1

    def write(self, author: str, length: int, *, behind: WrittenNode | None = None) -> WrittenNode:
        """Write ``length`` new tokens and insert them, behind the first half of ``behind``.

        Rows of the shared half that the cache does not serve are written again, as they were.

        Raises:
            NativeScenarioError: there are too few slots.
        """
        shared = 0 if behind is None else self._half_of(behind)
        tokens = array("q", [] if behind is None else token_ids(behind.key.data)[:shared])
        tokens.extend(range(self._next_token, self._next_token + length))
        self._next_token += length
        key = RadixKey(tokens, self._namespace)
        found = self._cache.match_prefix(MatchPrefixParams(key))
        lock = self._cache.inc_lock_ref(found.last_device_node)
        served = self._cache.path_device_indices(found.last_device_node)
        slots = self._take_slots(len(tokens) - len(served))
        content = self._write_rows(author, slots, length=length, behind=behind)
        inserted = self._cache.insert(
            InsertParams(
                key=key,
                value=torch.cat([served, slots[ComponentType.FULL]]),
                mamba_value=slots.get(ComponentType.MAMBA),
                prev_prefix_len=len(served),
            )
        )
        self._cache.dec_lock_ref(found.last_device_node, lock.to_dec_params())
        node = inserted.last_device_node
        own = self._cache.path_device_indices(node).cpu()
        return WrittenNode(key=key, node=node, slots=own, content=content)

    def use(self, written: WrittenNode) -> None:
        """Insert the tokens of a node again, in the slots that it has."""
        own = self._cache.path_device_indices(written.node)
        self._cache.insert(InsertParams(key=written.key, value=own, prev_prefix_len=len(own)))

    def _half_of(self, written: WrittenNode) -> int:
        """Return the number of tokens of half a node, in whole pages."""
        page_size = self._cache.page_size
        return len(written.key) // 2 // page_size * page_size

    def _take_slots(self, length: int) -> Mapping[ComponentType, torch.Tensor]:
        allocator = self._pools.allocator
        full = allocator.alloc(length)
        if full is None:
            raise NativeScenarioError("device: a node needs slots; expected some free, got none")
        slots = {ComponentType.FULL: full}
        if allocator.window is not None:
            slots[ComponentType.SWA] = allocator.window.full_to_swa(full)
        if self._pools.req_to_token_pool is not None:
            state = self._pools.req_to_token_pool.mamba_allocator.alloc(1)
            if state is None:
                rule = "a node needs a state slot; expected one free, got none"
                raise NativeScenarioError(f"device: {rule}")
            slots[ComponentType.MAMBA] = state
        return slots

    def _write_rows(
        self,
        author: str,
        slots: Mapping[ComponentType, torch.Tensor],
        *,
        length: int,
        behind: WrittenNode | None,
    ) -> BytesByPool:
        """Launch writing the rows of new slots; return the rows of all tokens, by pool.

        The rows of the last ``length`` tokens are the author's.
        """
        content: dict[PoolName, list[torch.Tensor]] = {name: [] for name in self._rows}
        for name, buffers in self._rows.items():
            for number, buffer in enumerate(buffers):
                own = slots[buffer.component]
                rows = row_content(buffer, own[-length:], author=author)
                if behind is not None and buffer.component is not ComponentType.MAMBA:
                    shared = self._half_of(behind) // buffer.slots_per_row
                    rows = torch.cat([behind.content[name][number][:shared], rows])
                missing = len(buffer.rows_of(own))
                launch_write(self._device, buffer, own, rows[len(rows) - missing :])
                content[name].append(rows)
        return content
