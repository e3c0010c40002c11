"""The cache controller: moves slots of all pools of a group between device and host."""

import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from assembler.controller.attachment import StorageAttachment
from assembler.controller.copier import DraftPools, StackCopier, hold_operation
from assembler.controller.layer_done import LayerDoneCounter
from assembler.controller.operations import CacheOperation, HiCacheAck, merge_operations
from assembler.controller.settings import parse_io_backend, parse_write_policy, stage_of
from assembler.device_pools.base import SlotAllocator, TokenKVPool
from assembler.errors import TransferError
from assembler.groups import ProcessGroup
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import HostPoolGroup, PoolTransfer
from assembler.host_pools.resolve import Grant, resolve_transfers
from assembler.names import ComponentType, Direction, PoolName
from assembler.params import KVSlotAllocator
from assembler.validation import validate_draft_pools


class _Request(NamedTuple):
    """Arguments of ``write`` and ``load``; ``indices`` are the slots to copy from."""

    indices: torch.Tensor
    node_id: int
    priority: int | None
    extra_pools: Sequence[PoolTransfer] | None


class HybridCacheController(StorageAttachment):
    """A controller that backs up and loads slots for a cache, which decides what and when.

    Backups run on the stream ``write``, all layers in one operation. Loads run on ``load``, layer
    by layer, and readers of the device pool wait for their own layer only. The constructor
    registers :attr:`layer_done_counter` on the allocator's (outer) device pool; the cache registers
    it on a Mamba hybrid's request pool as well.

    A slot that takes part in an operation may be freed or overwritten only when the
    ``finish_event`` of its acknowledgement is done. A host slot just written may be loaded from
    then on too: the two streams are not ordered with each other.

    Args:
        token_to_kv_pool_allocator: hands out device slots and knows the device pool.
        mem_pool_host: the host pools.
        page_size: tokens of a page.
        tp_group: the ranks that keep the same cache.
        load_cache_event: the cache's signal that loads are wanted.
        attn_cp_group: attention context-parallel ranks, as an object; the rank comes from it.
        attn_tp_group: attention tensor-parallel ranks, likewise.
        write_policy: a :class:`~assembler.names.WritePolicy` value.
        io_backend: an :class:`~assembler.names.IoBackend` value.
        pp_rank: pipeline stage, from 0.
        pp_size: number of pipeline stages.
        transfer_layer_num: stage-local layers of a load, over all pools; None for the device
            pool's.
        storage_backend: name of the storage tier that is attached at once; None for none.
        prefetch_threshold, model_name, storage_backend_extra_config: as in
            :meth:`attach_storage_backend`.
        enable_storage_metrics: whether storage counts what it does.
        pp_group: ranks of the same place in every stage; must agree with a stage that is given.

    Attributes:
        mem_pool_device_allocator: the argument ``token_to_kv_pool_allocator``.
        mem_pool_device: the allocator's device pool.
        layer_num: stage-local layers of a load, over all pools.
        layer_done_counter: the counter that readers of the device pool wait on.
        write_queue: operations waiting for ``start_writing``.
        load_queue: operations waiting for ``start_loading``.
        ack_write_queue: launched backups, oldest first.
        ack_load_queue: launched loads, oldest first.
        attn_cp_rank: place in ``attn_cp_group``, 0 without one.
        attn_cp_size: members of ``attn_cp_group``, 1 without one.

    The other arguments are attributes of the same name.

    Source: sglang 0.5.12 ``hybrid_cache_controller.py``, ``cache_controller.py``.
    """

    def __init__(  # noqa: PLR0913 - published signature
        self,
        token_to_kv_pool_allocator: KVSlotAllocator,
        mem_pool_host: HostPoolGroup,
        page_size: int,
        tp_group: ProcessGroup | None,
        load_cache_event: threading.Event | None,
        attn_cp_group: ProcessGroup | None = None,
        attn_tp_group: ProcessGroup | None = None,
        write_policy: str = "write_through_selective",
        io_backend: str = "",
        storage_backend: str | None = None,
        prefetch_threshold: int = 256,
        model_name: str | None = None,
        storage_backend_extra_config: Mapping[str, object] | None = None,
        pp_rank: int = 0,
        pp_size: int = 1,
        transfer_layer_num: int | None = None,
        enable_storage_metrics: bool = False,  # noqa: FBT001, FBT002 - the field's signature
        pp_group: ProcessGroup | None = None,
    ) -> None:
        """Create streams, queues and the layer counter.

        Raises:
            AssemblyError: the write policy is unknown, ``pp_group`` contradicts the stage, or
                storage cannot be attached.
            TransferError: the io backend is unknown.
            StorageError: storage cannot be opened.
        """
        self.mem_pool_device_allocator = token_to_kv_pool_allocator
        self.mem_pool_device = token_to_kv_pool_allocator.get_kvcache()
        self.mem_pool_host = mem_pool_host
        self.page_size = page_size
        self.tp_group = tp_group
        self.load_cache_event = load_cache_event
        self.attn_cp_group = attn_cp_group
        self.attn_tp_group = attn_tp_group
        self.attn_cp_rank = 0 if attn_cp_group is None else attn_cp_group.rank()
        self.attn_cp_size = 1 if attn_cp_group is None else attn_cp_group.size()
        self.write_policy = parse_write_policy(write_policy)
        self.io_backend = parse_io_backend(io_backend)
        self.prefetch_threshold = prefetch_threshold
        self.model_name = model_name
        self.storage_backend_extra_config = storage_backend_extra_config
        self.pp_group = pp_group
        self.pp_rank, self.pp_size = stage_of(pp_group, pp_rank=pp_rank, pp_size=pp_size)
        self.enable_storage_metrics = enable_storage_metrics
        self._open_queues(transfer_layer_num)
        if storage_backend is not None:
            self._attach_storage(storage_backend, storage_backend_extra_config)

    def _open_queues(self, transfer_layer_num: int | None) -> None:
        """Create streams and queues, and make the device pool wait for loads."""
        self._open_without_storage()
        pool = self.mem_pool_device
        self.device = pool.device
        self.layer_num = pool.layer_num if transfer_layer_num is None else transfer_layer_num
        self.write_queue: list[CacheOperation] = []
        self.load_queue: list[CacheOperation] = []
        self.ack_write_queue: list[HiCacheAck] = []
        self.ack_load_queue: list[HiCacheAck] = []
        self.write_stream = self.device.new_stream("write")
        self.load_stream = self.device.new_stream("load")
        self.layer_done_counter = LayerDoneCounter(device=self.device, layer_num=self.layer_num)
        pool.register_layer_transfer_counter(self.layer_done_counter)
        self._copier = StackCopier(
            device=self.device, group=self.mem_pool_host, io_backend=self.io_backend
        )
        self._arrivals = itertools.count()

    def set_draft_kv_pool(
        self, draft_device_pool: TokenKVPool, draft_host_pool: HostKVCache
    ) -> None:
        """Move a draft model's KV along with the anchor's, in both directions, on its slots.

        Raises:
            AssemblyError: the host pool does not mirror the device pool, is smaller than the
                anchor's, or the draft has more layers than a load.
            StorageError: pages are being moved to or from storage.
        """
        validate_draft_pools(
            group=self.mem_pool_host,
            device_pool=draft_device_pool,
            host_pool=draft_host_pool,
            transfer_layer_num=self.layer_num,
        )
        if self.storage_tier is not None:
            self.storage_tier.add_follower(PoolName.DRAFT, draft_host_pool)
        self.draft_host_pool = draft_host_pool
        self._copier.draft = DraftPools(device_pool=draft_device_pool, host_pool=draft_host_pool)
        draft_device_pool.register_layer_transfer_counter(self.layer_done_counter)

    def write(
        self,
        device_indices: torch.Tensor,
        priority: int | None = None,
        node_id: int = -1,
        extra_pools: Sequence[PoolTransfer] | None = None,
    ) -> torch.Tensor | None:
        """Take host slots and start copying the device slots there.

        Args:
            device_indices: ``(slots,) int64``, whole pages of the anchor's device pool.
            priority: lower goes first; None for the order of arrival.
            node_id: comes back in the acknowledgement.
            extra_pools: what to move along; missing host indices are written into these objects.

        Returns:
            ``(slots,) int64`` host slots in host memory, or None when a host pool is full, also
            after its eviction function ran. Nothing stays allocated then.

        Raises:
            TransferError: a transfer names an unknown pool or cannot be resolved.

        Order: the copy waits for the current stream's work so far. An error while copying gives
        every slot back and leaves the queue empty.
        """
        request = _Request(device_indices, node_id, priority, extra_pools)
        operation = self._admit(request, Direction.BACKUP, self.mem_pool_host)
        if operation is None:
            return None
        self.write_queue.append(operation)
        self.start_writing()
        return operation.host_indices

    def load(
        self,
        host_indices: torch.Tensor,
        priority: int | None = None,
        node_id: int = -1,
        extra_pools: Sequence[PoolTransfer] | None = None,
    ) -> torch.Tensor | None:
        """Take device slots and queue a copy of the host slots; ``start_loading`` launches it.

        The arguments are those of :meth:`write` with host and device exchanged; ``host_indices``
        may be empty, to load sidecars only.

        Returns:
            ``(slots,) int64`` device slots, or None when a device pool is full, as for ``write``.
            With sliding windows these are full slots only: the caller maps them to the window
            slots that it finds in its transfer.

        Raises:
            TransferError: a transfer names an unknown pool or cannot be resolved.
        """
        allocator = self.mem_pool_device_allocator.slot_owners[ComponentType.FULL]
        request = _Request(host_indices, node_id, priority, extra_pools)
        operation = self._admit(request, Direction.LOAD, allocator)
        if operation is None:
            return None
        self.load_queue.append(operation)
        return operation.device_indices

    def start_writing(self) -> None:
        """Launch everything in ``write_queue`` as one operation.

        Order: the stream ``write`` waits for the event ``write.start``, recorded on the current
        stream, and records ``write.finish`` after the last copy.
        """
        if not self.write_queue:
            return
        operation = merge_operations(self.write_queue)
        self.write_queue.clear()
        start, finish = self.device.new_event("write.start"), self.device.new_event("write.finish")
        # Recorded before switching streams: the event stands for the caller's work, which wrote the
        # rows and the slot numbers that the copies read.
        start.record(self.device.current_stream())
        try:
            with self.device.on(self.write_stream):
                self.write_stream.wait_event(start)
                placed = self._copier.place(operation)
                self._copier.backup(placed)
                finish.record(self.write_stream)
                # Held on the stream that reads them, both the cache's tensors and the copies that
                # place() made: torch's allocator only knows the stream they were allocated on.
                hold_operation(stream=self.write_stream, operation=operation)
                hold_operation(stream=self.write_stream, operation=placed)
        except Exception:
            # Copies launched before the error still use the slots: wait, then free them.
            self.write_stream.synchronize()
            operation.give_back()
            raise
        self.ack_write_queue.append(HiCacheAck(start, finish, list(operation.node_ids)))

    def start_loading(self) -> int:
        """Launch everything in ``load_queue`` as one operation, layer by layer.

        Returns:
            The load's place in the counter's ring, for ``set_consumer``; -1 when nothing waited.

        Raises:
            TransferError: too many loads are in flight; the queue is kept.

        Order: the stream ``load`` waits for the event ``load.start``, recorded on the current
        stream, and records ``load.layer<i>`` after each layer. An error while copying gives the
        device slots back and leaves the queue empty.
        """
        if not self.load_queue:
            return -1
        producer_index = self.layer_done_counter.update_producer()
        events = self.layer_done_counter.events(producer_index)
        operation = merge_operations(self.load_queue)
        self.load_queue.clear()
        events.start_event.record(self.device.current_stream())
        try:
            with self.device.on(self.load_stream):
                self.load_stream.wait_event(events.start_event)
                placed = self._copier.place(operation)
                self._copier.expect_load(placed)
                for layer in range(self.layer_num):
                    # A layer's event is recorded before the next layer is launched, so that the
                    # forward pass can start on layer 0 while later layers are still loading.
                    self._copier.load_layer(placed, layer=layer)
                    events.complete(layer=layer, stream=self.load_stream)
                hold_operation(stream=self.load_stream, operation=operation)
                hold_operation(stream=self.load_stream, operation=placed)
        except Exception:
            self.load_stream.synchronize()
            operation.give_back()
            raise
        self.ack_load_queue.append(
            HiCacheAck(events.start_event, events.finish_event, list(operation.node_ids))
        )
        return producer_index

    def move_indices(
        self, host_indices: torch.Tensor, device_indices: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both index tensors as the io backend reads them, still in pairs."""
        return self._copier.place_indices(host_indices=host_indices, device_indices=device_indices)

    def evict_device(self, device_indices: torch.Tensor) -> int:
        """Free device slots, and window slots mapped to them; return how many of the former."""
        self.mem_pool_device_allocator.free(device_indices)
        return len(device_indices)

    def evict_host(
        self,
        host_indices: torch.Tensor,
        backup_only: bool = True,  # noqa: FBT001, FBT002 - the field's signature
    ) -> int:
        """Free anchor host slots and return how many.

        Raises:
            TransferError: ``backup_only`` is false; there is no other kind of host eviction.
        """
        if not backup_only:
            rule = "host slots hold backups only"
            raise TransferError("KV", rule, expected="backup_only=True", got=backup_only)
        return self.mem_pool_host.free(host_indices)

    def reset(self) -> None:
        """End storage operations and wait for copies in flight; then clear queues and loads.

        Slots stay allocated: they belong to the cache. A storage tier stays attached. Where one of
        its threads had died, its error is raised, and all of this is done.
        """
        try:
            if self.storage_tier is not None:
                self.storage_tier.reset()
        finally:
            self.write_stream.synchronize()
            self.load_stream.synchronize()
            self.write_queue.clear()
            self.load_queue.clear()
            self.ack_write_queue.clear()
            self.ack_load_queue.clear()
            self.layer_done_counter.reset()

    def shutdown(self) -> None:
        """Reset, and end the threads of the storage tier; again does nothing."""
        try:
            self.reset()
        finally:
            self.detach_storage_backend()

    def _admit(
        self, request: _Request, direction: Direction, allocator: SlotAllocator | HostPoolGroup
    ) -> CacheOperation | None:
        """Take slots on the other side for the anchor and the sidecars of a request.

        Returns None, with nothing taken, when one of the pools is full.
        """
        grant = Grant()
        taken = grant.take(
            need=len(request.indices), alloc=allocator.alloc, free=allocator.free, evict=None
        )
        if taken is None:
            return None
        is_backup = direction is Direction.BACKUP
        host_indices = taken if is_backup else request.indices
        device_indices = request.indices if is_backup else taken
        transfers = tuple(request.extra_pools or ())
        try:
            is_resolved = resolve_transfers(
                grant=grant,
                group=self.mem_pool_host,
                transfers=transfers,
                direction=direction,
                kv_host_indices=host_indices,
                kv_device_indices=device_indices,
            )
        except Exception:
            grant.give_back()
            raise
        if not is_resolved:
            grant.give_back()
            return None
        arrival = next(self._arrivals)
        return CacheOperation(
            host_indices=host_indices,
            device_indices=device_indices,
            node_ids=(request.node_id,),
            priority=arrival if request.priority is None else request.priority,
            pool_transfers=transfers,
            grants=(grant,),
        )
