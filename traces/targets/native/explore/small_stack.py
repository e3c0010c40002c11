"""The small stacks that traffic runs on: a scenario's own rows and layers, but few pages."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from assembler import HybridCacheController, PoolName
from assembler.cache.transfers import POOL_OF_COMPONENT
from assembler.controller.prefetch_policy import PrefetchPolicy
from assembler.device_pools.base import SlotAllocator
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.mirrored import MirroredPool
from assembler.names import ComponentType
from assembler.storage.paged import PagedStorage
from traces.explore.config import TrafficConfig
from traces.simulator import Schedule, SchedulePolicy, SimDevice
from traces.targets.native.builders import (
    MODEL_NAME,
    BuilderInputs,
    Cache,
    build_stack,
    builder_inputs,
)
from traces.targets.native.device_side import NativeDevicePools, NativeGeometry
from traces.targets.native.draft import mirror_draft
from traces.targets.native.explore.faults import FaultInjector
from traces.targets.native.explore.page_store import PageStore
from traces.targets.native.models import FAMILY_OF
from traces.targets.native.pools import geometry_of
from traces.targets.native.rows import ComponentRows, host_pools_by_name, row_buffers
from traces.targets.native.scenarios import NativeScenario

PAGES = 6
SLOTS_WITHOUT_PAGING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRead:
    """One read of a forward pass: one layer, by its stage-local id, of one pool.

    ``getter`` returns the buffers and makes the current stream wait for the layer.
    """

    pool: PoolName
    layer: int
    getter: Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallStack:
    """A stack under traffic.

    Attributes:
        rows: rows of every device pool, the draft's included, by pool.
        mirrors: host pool of every device pool, by pool.
        reads: what a forward pass reads, in order.
        tokens: slots that a step calls a page.
        store: keeps the pages of the storage tier; None where the scenario has none.
    """

    device: SimDevice
    side: NativeDevicePools
    cache: Cache
    rows: dict[PoolName, list[ComponentRows]]
    mirrors: dict[PoolName, HostKVCache]
    reads: tuple[LayerRead, ...]
    tokens: int
    store: PageStore | None

    def attach_storage(self) -> None:
        """Attach the store, if there is one; a prefetch is waited for."""
        if self.store is not None:
            page = self.cache.page_size
            policy = {"prefetch_policy": PrefetchPolicy.WAIT_COMPLETE}
            self.controller.attach_storage_backend("file", page, MODEL_NAME, policy)
            tier = self.controller.storage_tier
            assert tier is not None, "it was attached"
            assert isinstance(tier.storage, PagedStorage), "files keep pages"
            tier.storage.blobs = self.store
            # The host is barely larger than the device, so that a share of the rest is nothing.
            tier.prefetch_capacity_limit = self.cache.host_pool_group.size

    def host_owner(self, component: ComponentType) -> HostKVCache:
        """Return the host pool that owns the slots of a component."""
        return self.cache.host_pool_group.get_pool(POOL_OF_COMPONENT[component])

    @property
    def controller(self) -> HybridCacheController:
        """The cache controller, which launches the copies."""
        return self.cache.cache_controller

    @property
    def device_slots(self) -> dict[ComponentType, SlotAllocator]:
        """Allocator of the device slots of each component."""
        return self.side.slot_owners


def open_simulated_device(config: TrafficConfig) -> SimDevice:
    """Return a new simulated device under the schedule of a traffic configuration."""
    schedule = Schedule(seed=config.seed, policy=SchedulePolicy(config.policy))
    return SimDevice(schedule=schedule, capacity_bytes=None, raise_races=False)


def build_small_stack(
    scenario: NativeScenario, *, device: SimDevice, faults: FaultInjector
) -> SmallStack:
    """Build the stack of a scenario on a few pages, the host barely larger than the device."""
    faults.guard_memory(device)
    tokens = SLOTS_WITHOUT_PAGING if scenario.page_size == 1 else scenario.page_size
    geometry = replace(geometry_of(scenario), size=PAGES * tokens)
    side = FAMILY_OF[scenario.model].make_pools(geometry, device)
    for component, owner in side.slot_owners.items():
        is_full = component is ComponentType.FULL
        faults.guard_allocator(owner, site="device" if is_full else "device sidecar")
    plan = builder_inputs(scenario, geometry, side)
    small_host = replace(plan.server_args, hicache_ratio=1.0, hicache_size=0)
    plan = replace(plan, server_args=small_host)
    cache = build_stack(plan)
    cache.detach_storage_backend()
    store = None if scenario.storage_backend is None else PageStore(faults)
    # Nodes are short here; how long they must be is not what traffic is about.
    cache.load_back_threshold = 0
    stack = _with_readers(plan, cache=cache, device=device, faults=faults, store=store)
    stack.attach_storage()
    return stack


def _with_readers(
    plan: BuilderInputs,
    *,
    cache: Cache,
    device: SimDevice,
    faults: FaultInjector,
    store: PageStore | None,
) -> SmallStack:
    for entry in cache.host_pool_group.entries:
        is_anchor = entry.is_primary_index_anchor
        faults.guard_allocator(entry.host_pool, site="host" if is_anchor else "host sidecar")
    mirrored, mirrors = plan.side.mirrored, host_pools_by_name(cache.host_pool_group)
    reads = _reads_of(plan.geometry, mirrored)
    if plan.scenario.draft:
        draft, mirrors[PoolName.DRAFT] = mirror_draft(plan, cache=cache)
        mirrored[PoolName.DRAFT] = draft
        getter = partial(draft.read_layer, plan.geometry.start_layer)
        reads.insert(0, LayerRead(pool=PoolName.DRAFT, layer=0, getter=getter))
    for mirror in mirrors.values():
        faults.guard_copies(mirror)
    return SmallStack(
        device=device,
        side=plan.side,
        cache=cache,
        rows=row_buffers(mirrored, start_layer=plan.geometry.start_layer),
        mirrors=mirrors,
        reads=tuple(reads),
        tokens=plan.geometry.size // PAGES,
        store=store,
    )


def _reads_of(
    geometry: NativeGeometry, mirrored: Mapping[PoolName, MirroredPool]
) -> list[LayerRead]:
    """Return the reads of the main model, layer by layer."""
    reads: list[LayerRead] = []
    for layer in range(geometry.model.layer_span):
        found = list(_reads_at(mirrored, layer, layer_id=geometry.start_layer + layer))
        # The first reader of a layer waits for the others too, so each must come first somewhere.
        reads += reversed(found) if layer % 2 else found
    return reads


def _reads_at(
    mirrored: Mapping[PoolName, MirroredPool], layer: int, *, layer_id: int
) -> Iterator[LayerRead]:
    """Yield the reads of one layer: what shares the slots of the anchor comes before it."""
    for name, pool in sorted(mirrored.items(), key=lambda item: item[1].owns_slots):
        if layer_id in pool.layer_mapping:
            yield LayerRead(pool=name, layer=layer, getter=partial(pool.read_layer, layer_id))
