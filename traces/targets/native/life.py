"""Life of the nodes of a cache while their copies are on their way.

Between the launch and the end of a backup and of a load, everything is evicted that can be, free
slots are handed out and written, a request holds a node and is aborted; at last the cache is reset
while a backup is on its way. At every moment the locks of the nodes and the owners of all slots are
recorded.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from assembler.cache.nodes import CacheNode
from assembler.device import Device
from assembler.device_pools.base import SlotAllocator
from assembler.names import ComponentType
from assembler.owner import EvictParams
from assembler.params import KVSlotAllocator
from traces.schema.life import StateRecord
from traces.targets.common.content import row_content
from traces.targets.common.rows import launch_write
from traces.targets.native.builders import Cache
from traces.targets.native.device_side import NativeDevicePools
from traces.targets.native.errors import NativeScenarioError
from traces.targets.native.round_trip import BuffersByPool, WrittenNode
from traces.targets.native.states import CacheStates

STEP = "life"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTraffic:
    """Operations of a script on the nodes of a cache.

    Attributes:
        write: writes a node of an author and a number of tokens, and inserts it.
        finish_writing: waits until every backup is acknowledged.
        launch_loading: launches the queued loads.
        finish_loading: reads what is loaded, as a forward pass does, and acknowledges the loads.
    """

    write: Callable[[str, int], WrittenNode]
    finish_writing: Callable[[], None]
    launch_loading: Callable[[], None]
    finish_loading: Callable[[], None]


class CacheLife:
    """Drives a cache through the life of nodes of ``length`` tokens."""

    def __init__(
        self,
        cache: Cache,
        *,
        device: Device,
        pools: NativeDevicePools,
        rows: BuffersByPool,
        traffic: NodeTraffic,
        length: int,
    ) -> None:
        self._cache = cache
        self._device = device
        self._pools = pools
        self._rows = rows
        self._traffic = traffic
        self._length = length
        self._states = CacheStates(cache, pools=pools, step=STEP)
        self._nodes: list[CacheNode] = []

    def run(self) -> Iterator[StateRecord]:
        """Yield the state of the cache at every moment; it is empty before and after."""
        node = self._insert("kept")
        yield from self._back_up(node)
        yield from self._request(node)
        yield from self._load(node)
        yield from self._reset_in_flight()

    def _back_up(self, node: CacheNode) -> Iterator[StateRecord]:
        """Evict on both sides and reuse slots while a backup is on its way."""
        self._cache.write_backup(node)
        yield from self._read("backing_up")
        self._evict()
        yield from self._read("evicting_in_backup")
        self._overwrite_free("between")
        self._evict_host()
        yield from self._read("evicting_host_in_backup")
        self._traffic.finish_writing()
        yield from self._read("backed_up", is_final=True)

    def _request(self, node: CacheNode) -> Iterator[StateRecord]:
        """Evict while a request holds the node, and abort the request."""
        lock = self._cache.inc_lock_ref(node)
        self._evict()
        self._evict_host()
        yield from self._read("evicting_in_request")
        self._cache.dec_lock_ref(node, lock.to_dec_params())
        yield from self._read("aborted", is_final=True)
        self._evict()
        yield from self._read("evicted", is_final=True)

    def _load(self, node: CacheNode) -> Iterator[StateRecord]:
        """Evict on both sides, reuse slots and back another node up while a load is on its way."""
        # The load takes slots that are still being written when it is launched.
        self._overwrite_free("before")
        self._cache.load_back(node, mem_quota=self._length - 1)
        yield from self._read("over_quota")
        states = self._pools.slot_owners.get(ComponentType.MAMBA)
        own = None if states is None else states.alloc(1)
        self._states.held[ComponentType.MAMBA] = 0 if own is None else len(own)
        self._cache.load_back(node, mem_quota=self._length, state_slot=own)
        self._traffic.launch_loading()
        yield from self._read("loading")
        self._evict()
        self._evict_host()
        yield from self._read("evicting_in_load")
        self._overwrite_free("during")
        self._cache.write_backup(self._insert("later"))
        yield from self._read("inserted_in_load")
        self._traffic.finish_loading()
        self._traffic.finish_writing()
        if states is not None and own is not None:
            states.free(own)
        self._states.held.clear()
        yield from self._read("loaded", is_final=True)

    def _reset_in_flight(self) -> Iterator[StateRecord]:
        """Reset the cache while a backup is on its way, and reuse its slots."""
        self._evict()
        self._evict_host()
        self._cache.write_backup(self._insert("lost"))
        self._cache.reset()
        self._nodes.clear()
        yield from self._read("reset", is_final=True)
        self._overwrite_free("after")

    def _insert(self, author: str) -> CacheNode:
        node = self._traffic.write(author, self._length).node
        self._nodes.append(node)
        return node

    def _evict(self) -> None:
        """Ask for every device slot."""
        everything = self._pools.slot_owners[ComponentType.FULL].size
        self._cache.evict(EvictParams(num_tokens=everything))

    def _evict_host(self) -> None:
        """Ask for every host slot."""
        self._cache.evict_host(self._cache.host_pool_group.size, ComponentType.FULL)

    def _overwrite_free(self, author: str) -> None:
        """Write rows into every free device slot, and free them again."""
        allocator = self._pools.allocator
        slots = {ComponentType.FULL: _take_all(allocator)}
        if allocator.window is not None:
            slots[ComponentType.SWA] = allocator.window.full_to_swa(slots[ComponentType.FULL])
        states = self._pools.slot_owners.get(ComponentType.MAMBA)
        if states is not None:
            slots[ComponentType.MAMBA] = _take_all(states)
        for buffers in self._rows.values():
            for buffer in buffers:
                own = slots[buffer.component]
                content = row_content(buffer, own, author=author)
                launch_write(self._device, buffer, own, content)
        allocator.free(slots[ComponentType.FULL])
        if states is not None:
            states.free(slots[ComponentType.MAMBA])

    def _read(self, moment: str, *, is_final: bool = False) -> Iterator[StateRecord]:
        """Yield the state of the nodes and of all pools."""
        yield from self._states.read(moment, self._nodes, is_final=is_final)


def _take_all(owner: KVSlotAllocator | SlotAllocator) -> torch.Tensor:
    """Take every free slot of an allocator.

    Raises:
        NativeScenarioError: it does not hand out what it says is free.
    """
    slots = owner.alloc(owner.available_size())
    if slots is None:
        raise NativeScenarioError("device: free slots can be taken; expected slots, got none")
    return slots
