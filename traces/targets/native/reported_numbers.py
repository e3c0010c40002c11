"""What a built stack says of itself, held against the scenario: numbers that move no byte here.

A pool's own layer numbers, the bytes it counts a slot, and the owner named by a refusal are read by
schedulers and people; no transfer shows them.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from assembler import PoolName
from assembler.allocators.swa import SWATokenToKVPoolAllocator
from assembler.controller.layer_done import LayerDoneCounter
from assembler.errors import PoolError
from assembler.host_pools.base import HostKVCache
from traces.targets.common.runtime import NativeScenarioError
from traces.targets.native.pools import NativeDevicePools, NativeGeometry
from traces.targets.native.rows import tensors_of


def check_reported_numbers(
    side: NativeDevicePools,
    hosts: Mapping[PoolName, HostKVCache],
    geometry: NativeGeometry,
    counter: LayerDoneCounter,
) -> None:
    """Check device pool, host pools, loads and everything that hands out slots.

    Raises:
        StageError: one of them says something else than it was made with, or than it holds.
    """
    model = geometry.model
    _expect(
        "device pool",
        "layers must be those of the model",
        expected=(
            len(model.full_layers + model.swa_layers),
            geometry.start_layer,
            geometry.end_layer,
        ),
        got=_layers(side.kvcache),
    )
    _expect(
        "device pool",
        "pages must be those of the scenario",
        expected=geometry.page_size,
        got=side.kvcache.page_size,
    )
    _check_loads(counter)
    for name, host in hosts.items():
        subject = f"host.{name.name}"
        _expect(
            subject,
            "layers must be those of its device pool",
            expected=_layers(host.device_pool),
            got=_layers(host),
        )
        held = sum(tensor.nbytes for tensor in tensors_of(host))
        # Index rows stand for a page each, and page 0 of the device has one on the host as well.
        spare = host.page_size * host.size_per_token if host.slots_per_row > 1 else 0
        counted = host.size * host.size_per_token + spare
        _expect(subject, "must count the bytes it holds", expected=held, got=counted)
    _check_names([*_allocators(side), *hosts.values()])


def _check_loads(counter: LayerDoneCounter) -> None:
    """A load that had more events than layers would be over before its last layer is."""
    for place in range(counter.num_counters):
        got = len(counter.events(place).layer_events)
        _expect("load", "must have an event a layer", expected=counter.layer_num, got=got)


def _check_names(owners: Iterable[Any]) -> None:
    for owner in owners:
        name = type(owner).__name__
        try:
            owner.alloc(-1)
        except PoolError as error:
            got = str(error).partition(":")[0]
            _expect("refusal", "must name whose slots they are", expected=name, got=got)
        else:
            _expect(name, "must refuse to hand out -1 slots", expected="PoolError", got="none")


def _allocators(side: NativeDevicePools) -> Iterator[object]:
    if isinstance(side.allocator, SWATokenToKVPoolAllocator):
        yield side.allocator.full_attn_allocator
        yield side.allocator.swa_attn_allocator
    else:
        yield side.allocator
    if side.req_to_token_pool is not None:
        yield side.req_to_token_pool.mamba_allocator


def _layers(pool: Any) -> tuple[int, int, int]:  # noqa: ANN401 - a pool of either side
    return pool.layer_num, pool.start_layer, pool.end_layer


def _expect(subject: str, rule: str, *, expected: object, got: object) -> None:
    if got != expected:
        raise NativeScenarioError(f"{subject}: {rule}; expected {expected}, got {got}")
