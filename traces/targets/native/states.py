"""States of a native cache at one moment: locks of its nodes, owners of the slots of its pools."""

from collections.abc import Iterator, Sequence

from assembler import PoolName
from assembler.cache.nodes import CacheNode
from assembler.names import ComponentType
from traces.schema.life import NodeLocks, PoolBalance, StateRecord
from traces.schema.model import PoolSide
from traces.targets.native.builders import Cache
from traces.targets.native.device_side import NativeDevicePools
from traces.targets.native.rows import host_pools_by_name


class CacheStates:
    """Reads the states of a cache and of its pools during one step of a script.

    Attributes:
        held: device slots that requests of the script have taken, by component.
    """

    def __init__(self, cache: Cache, *, pools: NativeDevicePools, step: str) -> None:
        self._cache = cache
        self._pools = pools
        self._step = step
        self.held: dict[ComponentType, int] = {}

    def read(
        self, moment: str, nodes: Sequence[CacheNode], *, is_final: bool
    ) -> Iterator[StateRecord]:
        """Yield the locks of every node that has any, and the balance of every pool."""
        for node in nodes:
            for component in self._pools.slot_owners:
                device = node.locks_of(component)
                host = device + node.host_lock_ref
                if host:
                    yield NodeLocks(
                        step=self._step,
                        moment=moment,
                        node=str(node.id),
                        component=component.name,
                        device=device,
                        host=host,
                    )
        for side, pool, free, cached, held, total in self._balances(nodes):
            has_sums = (side, pool) == ("device", PoolName.KV.name)
            yield PoolBalance(
                step=self._step,
                moment=moment,
                pool=pool,
                side=side,
                total=total,
                free=free,
                cached=cached,
                held=held,
                evictable=self._cache.evictable_size() if has_sums else None,
                protected=self._cache.protected_size() if has_sums else None,
                is_final=is_final,
            )

    def _balances(
        self, nodes: Sequence[CacheNode]
    ) -> Iterator[tuple[PoolSide, str, int, int, int, int]]:
        """Yield side, pool, free slots, slots of nodes, those of requests, and all slots."""
        names = {
            mirrored.component: name
            for name, mirrored in self._pools.mirrored.items()
            if mirrored.owns_slots
        }
        hosts = host_pools_by_name(self._cache.host_pool_group)
        for component, owner in self._pools.slot_owners.items():
            cached = sum(len(node.device.get(component, ())) for node in nodes)
            held = self.held.get(component, 0)
            yield "device", names[component].name, owner.available_size(), cached, held, owner.size
        prefetches = self._cache.ongoing_prefetch.values()
        for component, name in names.items():
            pool = hosts[name]
            cached = sum(len(node.host.get(component, ())) for node in nodes)
            held = sum(len(pending.host.get(component, ())) for pending in prefetches)
            yield "host", name.name, pool.available_size(), cached, held, pool.size
