"""This repository's own stacks as a target: probes and types are found by searching the package.

Everything public is found by what it is: a function by its name (``build_*``, ``attach_*``), a
class by its base or its subpackage. A builder or pool that is added later is recorded without a
change here.
"""

import dataclasses
import enum
import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch

import assembler
from assembler import collectives
from assembler.allocators.requests import HybridReqToTokenPool
from assembler.cache.nodes import CacheNode
from assembler.controller.hybrid import HybridCacheController
from assembler.controller.storage_tier import StorageTier
from assembler.groups import LocalGroup
from assembler.host_pools.base import HostKVCache
from assembler.host_pools.group import HostPoolGroup, PoolEntry
from assembler.names import Direction, IoBackend, PoolName
from assembler.storage.paged import PagedStorage
from assembler.transfer import engine
from assembler.transfer.layer_rows import LayerRows
from traces.recording.encode import Encoder, Plain
from traces.recording.probes import (
    AllocationObservation,
    CallProbe,
    CollectiveObservation,
    EventProbe,
    GroupNaming,
    PoolNaming,
    PoolView,
    Probe,
    ReleaseObservation,
    StorageObservation,
    ThreadProbe,
    TransferObservation,
    Values,
)
from traces.schema.model import Part
from traces.schema.storage_records import StorageOperation
from traces.targets.common.content import digest
from traces.targets.common.probes import (
    builder_part,
    method_probe,
    register_device_types,
    stream_probes,
)
from traces.targets.native.buffer_rows import device_rows, host_rows

_BUILDER_PREFIXES = ("build_", "attach_")
_CACHE_OPERATIONS = (
    "init_hicache",
    "evict",
    "evict_host",
    "write_backup",
    "load_back",
    "write_backup_storage",
    "prefetch_from_storage",
    "release_aborted_request",
)
# The other methods are polled: how often depends on the schedule.
_STORAGE_OPERATIONS = ("start_backup", "start_prefetch")
_PAGE_ACCESSES: Mapping[str, StorageOperation] = {
    "has_page": "query",
    "store_page": "store",
    "fetch_page": "fetch",
}
# Computes in which memory indices must lie; the transfers show its effect.
_NO_OPERATIONS = ("move_indices",)


class NativeTarget:
    """The package ``assembler`` as it is imported in this process."""

    name = "native"
    package = "assembler"

    def __init__(self) -> None:
        assert assembler.__file__ is not None
        self.root = Path(assembler.__file__).parent.parent

    def builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders, sorted."""
        return builders()

    def probes(self) -> list[Probe]:
        """Return a probe for everything that is recorded, each function once."""
        return [*_builder_probes(), *_other_probes()]

    def register_types(self, encoder: Encoder) -> None:
        """Register the package's types: dataclasses by value, everything else by reference."""
        for cls in _classes():
            if _is_within(cls, "device.") or issubclass(cls, enum.Enum | BaseException):
                continue
            if dataclasses.is_dataclass(cls) and cls not in (PoolEntry, CacheNode):
                encoder.register_value(cls)
            else:
                encoder.register_reference(cls, cls.__name__)
        register_device_types(encoder)
        _register_group_types(encoder)

    def view(self, pool: object) -> PoolView | None:
        """Return a description of how to read ``pool``; None when it is no pool."""
        if isinstance(pool, HostKVCache):
            layout, is_pinned = str(pool.layout), pool.device.is_pinned
            return PoolView(side="host", layout=layout, is_pinned=is_pinned, rows=host_rows)
        if isinstance(pool, _device_pools()):
            return PoolView(side="device", layout="", is_pinned=lambda _: False, rows=device_rows)
        return None


@cache
def _other_probes() -> tuple[Probe, ...]:
    """Return the probes of all but builders, which are the same ones in every recording."""
    found = [*_constructor_probes(), *_operation_probes(), *_slot_probes(), *stream_probes()]
    found += [*_transfer_probes(), *_storage_probes(), _collective_probe()]
    return (*found, ThreadProbe())


def builders() -> tuple[str, ...]:
    """Return the names of all stack builders of ``assembler``, sorted."""
    names = sorted(_builder_functions())
    return tuple(name for name in names if name.startswith("attach_") or name.endswith("_stack"))


@cache
def _modules() -> tuple[ModuleType, ...]:
    found = pkgutil.walk_packages(assembler.__path__, "assembler.")
    return tuple(importlib.import_module(info.name) for info in found)


def _builder_functions() -> dict[str, FunctionType]:
    """Return builders and the functions they share; decorated ones by the name callers use."""
    names: dict[FunctionType, str] = {}
    for module in _modules():
        for name, value in vars(module).items():
            is_builder = isinstance(value, FunctionType) and name.startswith(_BUILDER_PREFIXES)
            if is_builder and (value not in names or value.__name__ == name):
                names[value] = name
    return {name: function for function, name in names.items()}


@cache
def _classes() -> tuple[type, ...]:
    """Return every public class of the package but protocols, where it is defined."""
    return tuple(
        value
        for module in _modules()
        for name, value in vars(module).items()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and not vars(value).get("_is_protocol", False)
    )


def _is_within(cls: type, subpackage: str) -> bool:
    return cls.__module__.startswith(f"assembler.{subpackage}")


@cache
def _device_pools() -> tuple[type, ...]:
    return tuple(
        cls
        for cls in _classes()
        if _is_within(cls, "device_pools") or issubclass(cls, HybridReqToTokenPool)
    )


def _methods(classes: tuple[type, ...], name: str) -> Iterator[tuple[type, FunctionType]]:
    """Yield every definition of a method, once."""
    for cls in classes:
        method = vars(cls).get(name)
        if isinstance(method, FunctionType):
            yield cls, method


def _builder_probes() -> Iterator[Probe]:
    for name, function in _builder_functions().items():
        yield CallProbe(
            function=function,
            callee=name,
            role="builder",
            method="",
            names_pools=None,
            part=builder_part(name),
        )


def _constructor_probes() -> Iterator[Probe]:
    pools = (HostKVCache, *_device_pools())
    kinds: dict[Part, tuple[type, ...]] = {
        "entry": (PoolEntry,),
        "group": (HostPoolGroup,),
        "controller": (HybridCacheController,),
        "pool": pools,
    }
    for cls in _classes():
        part = next((part for part, bases in kinds.items() if issubclass(cls, bases)), None)
        for _, function in _methods((cls,), "__init__") if part else ():
            names_pools = _entry_pool_namings if part == "entry" else None
            yield method_probe(
                cls, function, role="constructor", part=part or "", names_pools=names_pools
            )


def _operation_probes() -> Iterator[Probe]:
    # Its bases too: a controller inherits operations.
    controllers = tuple(
        cls
        for cls in _classes()
        if issubclass(cls, HybridCacheController) or cls in HybridCacheController.__mro__
    )
    names = {
        name
        for cls in controllers
        for name, method in vars(cls).items()
        if isinstance(method, FunctionType) and not name.startswith("_")
    }
    caches = tuple(cls for cls in _classes() if _is_within(cls, "cache"))
    watched: tuple[tuple[Part, tuple[type, ...], Sequence[str]], ...] = (
        ("controller", controllers, sorted(names.difference(_NO_OPERATIONS))),
        ("cache", caches, _CACHE_OPERATIONS),
        ("controller", (StorageTier,), _STORAGE_OPERATIONS),
    )
    for part, classes, operations in watched:
        for name in operations:
            for cls, function in _methods(classes, name):
                names_pools = _draft_pool_namings if name == "set_draft_kv_pool" else None
                yield method_probe(
                    cls, function, role="operation", part=part, names_pools=names_pools
                )


def _slot_probes() -> Iterator[Probe]:
    owners = tuple(
        cls for cls in _classes() if _is_within(cls, "allocators") or issubclass(cls, HostKVCache)
    )
    for name, observe in (("alloc", _allocation_observation), ("free", _release_observation)):
        for _, function in _methods(owners, name):
            yield EventProbe(function=function, family=name, nesting="innermost", observe=observe)


def _transfer_probes() -> Iterator[Probe]:
    move, moved_ahead = engine.move, engine.moved_ahead
    assert isinstance(move, FunctionType)
    assert isinstance(moved_ahead, FunctionType)
    yield EventProbe(function=move, family="move", nesting="every", observe=_move_observation)
    yield EventProbe(
        function=moved_ahead, family="move", nesting="every", observe=_ahead_observations
    )


def _storage_probes() -> Iterator[Probe]:
    for name, operation in _PAGE_ACCESSES.items():
        for _, function in _methods((PagedStorage,), name):
            observe = partial(_storage_observation, operation)
            yield EventProbe(function=function, family=name, nesting="every", observe=observe)


def _storage_observation(
    operation: StorageOperation,
    values: Values,
    result: bool,  # noqa: FBT001 - what was returned
) -> StorageObservation:
    storage: PagedStorage = values["self"]
    pool, page_hash = PoolName(values["pool"]), str(values["page_hash"])
    blocks = storage.pools[pool].page_blocks(int(values.get("slot", 0)))
    is_moved = result and operation != "query"
    return StorageObservation(
        operation=operation,
        pool=pool.name,
        key=storage.page_name(pool, page_hash).replace(page_hash, page_hash[:16]),
        bytes=sum(block.nbytes for block in blocks) if result else 0,
        backend=storage.blobs.backend,
        sha256=digest(blocks) if is_moved else "",
    )


def _collective_probe() -> Probe:
    reduce = collectives.reduce_minimum
    assert isinstance(reduce, FunctionType)
    return EventProbe(
        function=reduce, family="collective", nesting="every", observe=_collective_observation
    )


def _collective_observation(values: Values, result: list[int]) -> CollectiveObservation | None:
    role = collectives.CollectiveRole(values["role"])
    if role.counts_copies or (role.is_polled and not any(result)):
        return None
    group = values["group"].group
    return CollectiveObservation(
        operation="all_reduce",
        reduction="MIN",
        group=GroupNaming(
            role=collectives.tag_of(group),
            ranks=collectives.ranks_of(group),
            rank=group.rank(),
        ),
        peer=None,
        dtype="int64",
        shape=(len(values["values"]),),
    )


def _entry_pool_namings(values: Values) -> Iterator[PoolNaming]:
    pool = PoolName(values["name"]).name
    yield PoolNaming(side="host", pool=pool, holder=values["host_pool"])
    yield PoolNaming(side="device", pool=pool, holder=values["device_pool"])


def _draft_pool_namings(values: Values) -> Iterator[PoolNaming]:
    for value in values.values():
        if isinstance(value, HostKVCache):
            yield PoolNaming(side="host", pool=PoolName.DRAFT.name, holder=value)
        elif isinstance(value, _device_pools()):
            yield PoolNaming(side="device", pool=PoolName.DRAFT.name, holder=value)


def _move_observation(values: Values, result: int) -> TransferObservation:
    return _transfer_observation(values, values["layer_rows"], result)


def _ahead_observations(values: Values, _: None) -> tuple[TransferObservation, ...]:
    slot_num = values["host_indices"].numel()
    return tuple(
        _transfer_observation(values, layer_rows, engine.moved_bytes(layer_rows, slot_num))
        for layer_rows in values["rows"]
    )


def _transfer_observation(
    values: Values, layer_rows: LayerRows, moved_bytes: int
) -> TransferObservation:
    host_pool = layer_rows.owner
    assert isinstance(host_pool, HostKVCache)
    return TransferObservation(
        direction=Direction(values["direction"]).value,
        host_pool=host_pool,
        device_pool=None,
        plane=layer_rows.plane,
        layer=layer_rows.layer,
        device_slots=values["device_indices"],
        host_slots=values["host_indices"],
        rows=values["device_indices"].numel() // host_pool.slots_per_row,
        bytes=moved_bytes,
        backend=IoBackend(values["submission"].backend).value,
        stream=host_pool.device.current_stream().name,
    )


def _allocation_observation(values: Values, result: torch.Tensor | None) -> AllocationObservation:
    allocator, need = _allocator_and_argument(values)
    return AllocationObservation(pool=_pool_of(allocator), need=need, slots=result)


def _release_observation(values: Values, _: object) -> ReleaseObservation:
    allocator, slots = _allocator_and_argument(values)
    return ReleaseObservation(pool=_pool_of(allocator), slots=slots)


def _allocator_and_argument(values: Values) -> tuple[Any, Any]:
    """Return the two parameters by place: allocators and host pools name the second differently."""
    allocator, argument = values.values()
    return allocator, argument


def _pool_of(allocator: Any) -> object:  # noqa: ANN401 - any class that allocates
    """Return the pool whose slots an allocator allocates; a host pool allocates its own."""
    return allocator if isinstance(allocator, HostKVCache) else allocator.get_kvcache()


def _register_group_types(encoder: Encoder) -> None:
    def local(value: LocalGroup, _: str) -> Plain:
        return {"group": value.tag, "ranks": list(value.ranks), "rank": value.rank()}

    def distributed(value: Any, _: str) -> Plain:  # noqa: ANN401 - torch's own class
        ranks = torch.distributed.get_process_group_ranks(value)
        label = encoder.label(value, "ProcessGroup")
        return {"group": label, "ranks": list(ranks), "rank": value.rank()}

    encoder.register(LocalGroup, local)
    if torch.distributed.is_available():
        encoder.register(torch.distributed.ProcessGroup, distributed)
