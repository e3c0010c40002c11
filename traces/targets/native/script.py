"""Steps of one native scenario on one rank.

A round trip back into the same slots proves nothing, so the device is poisoned after the backup,
the load goes to other slots, and every row outside the destination must keep its poison.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import torch

from assembler import HostPoolGroup, HybridCacheController, PoolName
from assembler.device import tensor_access
from assembler.host_pools.base import HostKVCache
from assembler.names import ComponentType, WritePolicy
from assembler.owner import EvictParams
from traces.schema.life import StateRecord
from traces.schema.model import Digest, PoolSide, RoundTrip, StepRecord
from traces.schema.storage_records import StorageMatch
from traces.simulator import SimDevice
from traces.targets.common.content import digest, poison
from traces.targets.common.labels import FoundRace
from traces.targets.common.runtime import open_device
from traces.targets.native.builders import build_stack, builder_inputs
from traces.targets.native.draft import mirror_draft
from traces.targets.native.errors import NativeScenarioError
from traces.targets.native.forward_pass import ForwardPass
from traces.targets.native.life import STEP as LIFE
from traces.targets.native.life import CacheLife, NodeTraffic
from traces.targets.native.models import FAMILY_OF
from traces.targets.native.pools import RankGroups, geometry_of
from traces.targets.native.races import RowPlaces
from traces.targets.native.requests import RequestWriter
from traces.targets.native.round_trip import (
    BytesByPool,
    ServedNode,
    WrittenNode,
    compare_round_trips,
    read_bytes_by_pool,
)
from traces.targets.native.rows import (
    device_pools_by_name,
    host_pools_by_name,
    row_buffers,
    tensors_of,
)
from traces.targets.native.scenarios import NativeScenario

MAX_POLLS = 10_000_000
USES_BEFORE_BACKUP = {
    WritePolicy.WRITE_THROUGH: 1,
    WritePolicy.WRITE_THROUGH_SELECTIVE: 2,
    WritePolicy.WRITE_BACK: 1,
}

Step: TypeAlias = Callable[[], Iterable[RoundTrip | StateRecord | StorageMatch] | None]


class NativeScript:
    """The steps of one scenario, run with real pools on a device, see :func:`open_device`."""

    def __init__(
        self,
        scenario: NativeScenario,
        *,
        device: str,
        namespace: str | None = None,
        groups: RankGroups | None = None,
    ) -> None:
        """Prepare a run.

        ``namespace`` is that of the requests; ``groups`` are process groups, None for those of this
        process only.
        """
        self._scenario = scenario
        self._groups = groups
        self._namespace = namespace
        self._device = open_device(device)
        self._geometry = geometry_of(scenario)
        self._written: list[WrittenNode] = []
        self._served: list[ServedNode] = []
        self._draft_host: HostKVCache | None = None
        self._places = RowPlaces()
        self._known_race_num = 0
        self._steps: dict[str, Step] = {
            "build": self._build,
            "backup": self._back_up_nodes,
            "reload": self._reload_nodes,
            "pressure": self._load_under_pressure,
            "reset": self._reset_cache,
            "share": self._share_prefix,
            LIFE: self._live,
        }

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the steps, in order."""
        return tuple(self._steps)

    def run_step(self, step: str) -> Iterator[StepRecord]:
        """Run one of :attr:`steps`; yield its round trips, then the digest of every pool.

        Raises:
            NativeScenarioError: slots leaked, or no room was made where it could be.
        """
        yield from self._steps[step]() or ()
        self._device.synchronize()
        for side, name, pool in self._owners():
            content = digest(tensors_of(pool))
            yield Digest(step=step, owner=f"{side}.{name}", pool=name, sha256=content)

    def new_races(self) -> Iterator[FoundRace]:
        """Yield the races that a simulated device found since the last call, equal ones once."""
        found = self._device.races if isinstance(self._device, SimDevice) else []
        races = [self._places.found_race(race) for race in found[self._known_race_num :]]
        self._known_race_num = len(found)
        yield from {race.record: race for race in reversed(races)}.values()

    def _build(self) -> None:
        """Build device pools, call the builder, mirror a draft pool, poison everything."""
        family = FAMILY_OF[self._scenario.model]
        self._device_pools = family.make_pools(self._geometry, self._device)
        self._mirrored = self._device_pools.mirrored
        plan = builder_inputs(self._scenario, self._geometry, self._device_pools, self._groups)
        self._cache = build_stack(plan)
        if self._controller.storage_tier is not None:
            # Scenarios of their own store pages: here eviction has two tiers.
            self._cache.detach_storage_backend()
        self._register_counters()
        if self._scenario.draft:
            draft, self._draft_host = mirror_draft(plan, cache=self._cache)
            self._mirrored[PoolName.DRAFT] = draft
        self._pools = device_pools_by_name(self._mirrored)
        self._rows = row_buffers(self._mirrored, start_layer=self._geometry.start_layer)
        self._requests = RequestWriter(
            self._cache,
            device=self._device,
            pools=self._device_pools,
            rows=self._rows,
            namespace=self._namespace,
        )
        if isinstance(self._device, SimDevice):
            self._places.learn(self._rows, self._device)
        self._poison("before", [pool for _, _, pool in self._owners()])

    def _back_up_nodes(self) -> None:
        """Write two nodes on the device, back both up, and load one back at once.

        The load reads host rows as soon as the backup is acknowledged, so an acknowledgement that
        comes too early gives wrong bytes or a race.
        """
        tokens = (self._geometry.long_node, self._geometry.short_node)
        for author, length in zip(("first", "second"), tokens, strict=True):
            self._use(self._write(author, length))
        self._finish_writing()
        self._evict_all()
        self._load(self._written[0], rule="an evicted node can be loaded")
        self._finish_loading()

    def _reload_nodes(self) -> Iterator[RoundTrip]:
        """Evict both nodes, poison the device, load them into other slots and compare."""
        self._evict_all()
        self._poison("after", list(self._pools.values()))
        before = self._snapshot()
        for written in self._written:
            self._load(written, rule="a roomy device takes a load")
            self._check_moved(written)
        self._finish_loading()
        yield from self._compare_round_trips("reload", before)

    def _load_under_pressure(self) -> Iterator[RoundTrip]:
        """Leave no slot free on the host, then on the device: evictions must make room.

        Where a sidecar has slots of its own, those run short and its callbacks make room;
        otherwise the anchor's do.
        """
        self._evict_all()
        self._reserve_host_slots()
        second, third = self._written[1], self._write("third", self._geometry.short_node)
        self._use(third)
        self._finish_writing()
        self._evict_all()
        self._load(second, rule="an evicted node can be loaded")
        self._finish_loading()
        self._reserve_device_slots()
        self._written = [third]
        before = self._snapshot()
        self._load(third, rule="a full device evicts for a load")
        self._finish_loading()
        yield from self._compare_round_trips("pressure", before)

    def _reset_cache(self) -> None:
        """Reset the cache: with the reserved slots freed, every slot is free again."""
        self._cache.reset()
        allocator, slots = self._reserved
        allocator.free(slots)
        for name, left, size in self._free_slots():
            _require(left == size, f"{name}: no slot may leak; expected {size} free, got {left}")

    def _share_prefix(self) -> Iterator[RoundTrip]:
        """Split a node while it is backed up, then load both ends of what was one prefix."""
        self._written = []
        trunk = self._write("trunk", self._geometry.long_node)
        self._cache.write_backup(trunk.node)
        branch = self._write("branch", self._geometry.short_node, behind=trunk)
        self._cache.write_backup(branch.node)
        rule = "a prefix of two requests is one node; expected its parent, got another"
        shared = branch.node.parent
        _require(shared is trunk.node.parent, f"node {branch.node.id}: {rule}")
        self._finish_writing()
        self._evict_all()
        self._poison("share", list(self._pools.values()))
        before = self._snapshot()
        for written in self._written:
            self._load(written, rule="both ends of a prefix can be loaded")
        self._finish_loading()
        yield from self._compare_round_trips("share", before)
        self._cache.reset()

    def _live(self) -> Iterator[StateRecord]:
        """Evict, reuse, abort and reset while copies are on their way."""
        self._written = []
        traffic = NodeTraffic(
            write=self._write,
            finish_writing=self._finish_writing,
            launch_loading=self._launch_loading,
            finish_loading=self._read_loaded,
        )
        yield from CacheLife(
            self._cache,
            device=self._device,
            pools=self._device_pools,
            rows=self._rows,
            traffic=traffic,
            length=self._geometry.short_node,
        ).run()

    def _register_counters(self) -> None:
        """Make readers wait for the stack's loads, as the scheduler does after a direct build."""
        counter = self._controller.layer_done_counter
        if self._scenario.builder.startswith("build_"):
            self._device_pools.kvcache.register_layer_transfer_counter(counter)
            if self._device_pools.req_to_token_pool is not None:
                self._device_pools.req_to_token_pool.register_layer_transfer_counter(counter)

    def _write(self, author: str, length: int, *, behind: WrittenNode | None = None) -> WrittenNode:
        """Run a request of new tokens, behind the first half of another where one is given."""
        written = self._requests.write(author, length, behind=behind)
        self._written.append(written)
        return written

    def _use(self, written: WrittenNode) -> None:
        """Use a node as often as its write policy requires before it is backed up.

        The insertion was the first use. With ``write_back`` no use is enough: eviction backs the
        node up.
        """
        node, policy = written.node, WritePolicy(self._scenario.write_policy)
        for _ in range(USES_BEFORE_BACKUP[policy] - 1):
            self._requests.use(written)
        expected = policy is not WritePolicy.WRITE_BACK
        rule = f"{policy} decides when it is backed up"
        got = node.is_backed_up
        _require(got is expected, f"node {node.id}: {rule}; expected {expected}, got {got}")

    def _finish_writing(self) -> None:
        """Poll until every backup is acknowledged, as a scheduler does."""
        for _ in range(MAX_POLLS):
            if not self._cache.ongoing_write_through:
                return
            self._cache.writing_check()
        expected = f"expected it within {MAX_POLLS} polls, got none"
        raise NativeScenarioError(f"backup: must finish; {expected}")

    def _finish_loading(self) -> None:
        """Launch the queued loads and run a forward pass over every loaded node."""
        self._launch_loading()
        self._read_loaded()

    def _launch_loading(self) -> None:
        counter = self._controller.layer_done_counter
        counter.set_consumer(self._cache.ready_to_load())

    def _read_loaded(self) -> None:
        """Run a forward pass over every node on the device, and acknowledge the loads."""
        nodes = [written for written in self._written if not written.node.is_evicted]
        forward = ForwardPass(device=self._device, rows=self._rows, nodes=nodes)
        for layer in range(self._geometry.model.layer_span):
            self._enter_layer(layer)
            forward.read_layer(layer)
        self._device.synchronize()
        self._cache.loading_check()
        self._served = forward.served()

    def _enter_layer(self, layer: int) -> None:
        """Get a layer's buffers from the pools, which waits for the layer's load."""
        layer_id = self._geometry.start_layer + layer
        for pool in self._mirrored.values():
            # Attention asks once: what shares the slots of a pool is loaded with it.
            if pool.owns_slots and layer_id in pool.layer_mapping:
                pool.read_layer(layer_id)

    def _evict_all(self) -> None:
        """Free the device slots of every node; all are backed up."""
        self._cache.evict(EvictParams(num_tokens=self._geometry.size))
        for written in self._written:
            rule = "an unlocked node can be evicted; expected no device slots, got some"
            _require(written.node.is_evicted, f"node {written.node.id}: {rule}")

    def _reserve_host_slots(self) -> None:
        """Take every free host slot of the sidecars that have their own, else of the anchor."""
        full = ComponentType.FULL
        own = {name for name, pool in self._mirrored.items() if pool.component is not full}
        entries = [entry for entry in self._group.entries if entry.name in own]
        for entry in entries or [self._group.anchor_entry]:
            entry.host_pool.alloc(entry.host_pool.available_size())

    def _reserve_device_slots(self) -> None:
        """Take every free device slot of the sidecars that have their own, else of the anchor."""
        owners = self._device_pools.slot_owners
        owner = owners[list(owners)[-1]]
        slots = owner.alloc(owner.available_size())
        if slots is None:
            raise NativeScenarioError("device: free slots can be taken; expected slots, got none")
        self._reserved = (owner, slots)

    def _free_slots(self) -> Iterator[tuple[str, int, int]]:
        """Yield name, free slots and all slots of every allocator."""
        for component, owner in self._device_pools.slot_owners.items():
            yield f"device.{component}", owner.available_size(), owner.size
        for name, pool in host_pools_by_name(self._group).items():
            if self._mirrored[name].owns_slots:
                yield f"host.{name.name}", pool.available_size(), pool.size

    def _check_moved(self, written: WrittenNode) -> None:
        """Check that a load goes elsewhere: back into its own slots it would prove nothing."""
        back = torch.isin(written.node.device[ComponentType.FULL].cpu(), written.slots)
        rule = "a load goes to other slots; expected none of its own, got some"
        _require(not back.any(), f"reload: {rule}")

    def _load(self, written: WrittenNode, *, rule: str) -> None:
        answer = self._cache.load_back(written.node)
        if answer is None:
            raise NativeScenarioError(f"node {written.node.id}: {rule}; expected success, got None")

    def _snapshot(self) -> BytesByPool:
        """Read every device row from the host, with the device idle."""
        self._device.synchronize()
        buffers = [buffer for buffers in self._rows.values() for buffer in buffers]
        accesses = tuple(tensor_access(buffer.tensor) for buffer in buffers)
        self._device.host_access(label="snapshot", reads=accesses, writes=())
        return read_bytes_by_pool(self._rows)

    def _compare_round_trips(self, step: str, before: BytesByPool) -> Iterator[RoundTrip]:
        return compare_round_trips(step=step, rows=self._rows, before=before, served=self._served)

    def _owners(self) -> Iterator[tuple[PoolSide, str, object]]:
        """Yield every pool with data buffers, with its side and the name the trace gives it."""
        for name, pool in self._pools.items():
            yield "device", name.name, pool
        for name, pool in host_pools_by_name(self._group).items():
            yield "host", name.name, pool
        if self._draft_host is not None:
            yield "host", PoolName.DRAFT.name, self._draft_host

    def _poison(self, label: str, pools: list[object]) -> None:
        """Overwrite the pools from the host, with the device idle."""
        tensors = [tensor for pool in pools for tensor in tensors_of(pool)]
        self._device.synchronize()
        accesses = tuple(tensor_access(tensor) for tensor in tensors)
        self._device.host_access(label=f"poison {label}", reads=(), writes=accesses)
        poison(tensors, label)

    @property
    def _group(self) -> HostPoolGroup:
        return self._cache.host_pool_group

    @property
    def _controller(self) -> HybridCacheController:
        return self._cache.cache_controller


def _require(condition: object, message: str) -> None:
    if not condition:
        raise NativeScenarioError(message)
