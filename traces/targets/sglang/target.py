"""The installed release of sglang as a target: its probes, types and pools.

The meaning of calls and pools follows from published names that every release has (``PoolEntry``,
``HostPoolGroup``, ``HiCacheController``); everything else is found by
:mod:`traces.targets.sglang.discovery`. Transfers are recorded where bytes move.
"""

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import cached_property
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any, Literal

import torch

from traces.errors import RecorderError
from traces.recording.encode import Encoder, Plain
from traces.recording.probes import (
    BufferPath,
    CallProbe,
    EventProbe,
    GroupNaming,
    Observation,
    PoolNaming,
    PoolView,
    Probe,
    ThreadProbe,
    TransferObservation,
    Values,
)
from traces.recording.torch_collectives import collective_probes
from traces.schema.model import Part
from traces.targets.common.planes import Plane
from traces.targets.common.pool_buffers import buffers_of
from traces.targets.common.probes import builder_part, method_probe, register_device_types
from traces.targets.sglang.callbacks import CALLBACK, callback
from traces.targets.sglang.discovery import (
    PACKAGE,
    SglangRelease,
    hisparse_class,
    method_definitions,
)
from traces.targets.sglang.host_writes import HostWrites
from traces.targets.sglang.linker_pools import linker_probes
from traces.targets.sglang.memory_map import BufferLocation, MemoryMap
from traces.targets.sglang.pool_makers import pool_maker_methods
from traces.targets.sglang.pool_sides import PoolSides
from traces.targets.sglang.rank_context import ranks_of_group
from traces.targets.sglang.row_table import RowTable
from traces.targets.sglang.shims import report_copy
from traces.targets.sglang.shims.kernel_moves import CopiedRows
from traces.targets.sglang.slot_probes import SlotProbes
from traces.targets.sglang.storage import observe_storage_use, report_storage_use
from traces.targets.sglang.storage.threads import thread_role

_KV, _DRAFT = "KV", "DRAFT"
_OPERATIONS = (
    "write",
    "load",
    "start_writing",
    "start_loading",
    "set_draft_kv_pool",
    "attach_storage_backend",
)
_BY_VALUE = ("PoolTransfer", "SidecarPoolSpec")


class SglangTarget:
    """One release as it is imported in this process.

    ``group_tag`` returns the role of a process group (``tp``), None for an unknown one.

    Attributes:
        records_device_pools: whether constructors of device pools and allocators are recorded.
        pool_prefix: begins the names of pools: a scenario may assemble several stacks.
    """

    name = "sglang"
    package = PACKAGE

    def __init__(
        self,
        release: SglangRelease,
        *,
        is_pinned: Callable[[torch.Tensor], bool],
        group_tag: Callable[[object], str | None],
        order_probes: Callable[[], list[EventProbe]],
    ) -> None:
        found = importlib.import_module(PACKAGE).__file__
        assert found is not None
        self.root = Path(found).parent.parent
        self.memory = MemoryMap()
        self.host_writes = HostWrites()
        self._release = release
        self._is_pinned = is_pinned
        self._group_tag = group_tag
        self._order_probes = order_probes
        self.records_device_pools = False
        self.pool_prefix = ""
        self._host_pools = release.host_pools()
        self._device_pools = release.device_pools()
        self._side_of = PoolSides(host=self._host_pools, device=self._device_pools).side_of
        self._states: object | None = None
        self._rows = RowTable(self.memory)
        # The recorder captures warnings, whatever level the release sets for its logger.
        logging.getLogger(PACKAGE).setLevel(logging.WARNING)

    def builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders and strategies, sorted."""
        return self._release.stack_builders()

    def probes(self) -> list[Probe]:
        """Return a probe for every function to record, and one for the threads of storage."""
        # What records device pools reads facts of sources, of which every run has to hear.
        found = [*self._fixed_probes, *self._device_pool_probes()]
        once = {probe.function: probe for probe in found}
        return [*once.values(), ThreadProbe(role_of=thread_role)]

    @cached_property
    def _fixed_probes(self) -> list[CallProbe | EventProbe]:
        """The probes that every scenario has."""
        assert isinstance(callback, FunctionType)
        return [
            *self._call_probes(),
            *SlotProbes(self._release.allocators(), self._pool_of).probes(),
            *self._order_probes(),
            *collective_probes(self._name_group),
            _event_probe(report_storage_use, "storage", "every", observe_storage_use),
            CallProbe(
                function=callback,
                callee=CALLBACK,
                role="operation",
                method="",
                names_pools=None,
                part="callback",
            ),
        ]

    def register_types(self, encoder: Encoder) -> None:
        """Register the package's types: published dataclasses by value, the rest by reference."""
        encoder.register_package(PACKAGE)
        encoder.register_reference(SimpleNamespace, "Namespace")
        for cls in self._release.classes:
            if issubclass(cls, Enum | BaseException):
                continue
            if cls.__name__ in _BY_VALUE:
                encoder.register_value(cls)
            else:
                encoder.register_reference(cls, cls.__name__)
        register_device_types(encoder)
        encoder.register(torch.distributed.ProcessGroup, self._encode_group)
        encoder.register(slice, lambda one, _: {"slice": [one.start, one.stop, one.step]})

    def view(self, pool: object) -> PoolView | None:
        """Return how to read ``pool``; None when it is no pool."""
        side = self._side_of(type(pool))
        if side == "host":
            layout = getattr(pool, "layout", "")
            return PoolView(
                side="host",
                layout=layout if isinstance(layout, str) else "",
                is_pinned=self._is_pinned,
                tensors=self._own_buffers,
                rows=self._rows.of_host_pool,
            )
        if side == "device":
            return PoolView(
                side="device",
                layout="",
                is_pinned=lambda _: False,
                tensors=self._own_buffers,
                rows=lambda _: self._rows.of_device_buffer,
            )
        return None

    def learn_rows(self, planes: Iterable[Plane]) -> None:
        """Register the rows of all device pools; they are recorded with the buffers."""
        self._rows.learn(planes)

    def _learn(self, pool: object) -> None:
        self.memory.learn(pool, apart=self._referenced_types(pool))

    def _own_buffers(self, pool: object) -> Iterable[tuple[BufferPath, torch.Tensor]]:
        is_host = isinstance(pool, self._host_pools)
        return (
            (buffer.path, buffer.tensor)
            for buffer in buffers_of(pool, apart=self._referenced_types(pool))
            if not (is_host and self._is_on_device(buffer.tensor.data_ptr()))
        )

    def _is_on_device(self, address: int) -> bool:
        """Return whether memory is a device pool's: host pools list the buffers they mirror."""
        found = self.memory.find(address)
        return found is not None and self._side_of(type(found.pool)) == "device"

    def _referenced_types(self, pool: object) -> tuple[type, ...]:
        """Return the types that a pool refers to without owning their memory."""
        is_host = isinstance(pool, self._host_pools)
        return (*self._device_pools, *self._host_pools) if is_host else ()

    def _call_probes(self) -> Iterator[CallProbe | EventProbe]:
        release = self._release
        for name, function in release.builder_functions().items():
            yield CallProbe(
                function=function,
                callee=name,
                role="builder",
                method="",
                names_pools=None,
                part=builder_part(name),
            )
        for cls, function in method_definitions(release.strategies(), "build"):
            yield method_probe(cls, function, role="builder", part="", names_pools=None)
        entry, group = release.find("PoolEntry"), release.find("HostPoolGroup")
        wiring = tuple(cls for cls in (entry, group) if cls is not None)
        constructed = (*self._host_pools, *release.controllers(), *wiring)
        for cls, function in method_definitions(constructed, "__init__"):
            names_pools = self._entry_namings if cls is entry else self._host_namings
            part: Part = "pool"
            if cls in wiring:
                part = "entry" if cls is entry else "group"
            elif cls in release.controllers():
                part = "controller"
            yield method_probe(
                cls, function, role="constructor", part=part, names_pools=names_pools
            )
        for cls, function in method_definitions(hisparse_class(), "__init__"):
            yield method_probe(
                cls,
                function,
                role="constructor",
                part="controller",
                names_pools=self._hisparse_namings,
            )
        yield from linker_probes()
        for name in _OPERATIONS:
            for cls, function in method_definitions(release.controllers(), name):
                names_draft = self._draft_namings if name == "set_draft_kv_pool" else None
                yield method_probe(
                    cls, function, role="operation", part="controller", names_pools=names_draft
                )

    def _device_pool_probes(self) -> Iterator[CallProbe | EventProbe]:
        """Yield probes of memory and of copies; of constructors where pools may share memory."""
        made = (*self._device_pools, *self._release.allocators())
        if self.records_device_pools:
            for cls, function in method_definitions(made, "__init__"):
                part: Part = "pool" if cls in self._device_pools else ""
                yield method_probe(cls, function, role="constructor", part=part, names_pools=None)
            for cls, function in pool_maker_methods():
                yield method_probe(cls, function, role="builder", part="", names_pools=None)
            return
        for _, function in method_definitions(self._device_pools, "__init__"):
            yield _event_probe(function, "device pool", "outermost", self._learn_constructed)
        yield _event_probe(report_copy, "move", "every", self._observe_copy)

    def _entry_namings(self, values: Values) -> Iterator[PoolNaming]:
        name = values["name"]
        pool = str(getattr(name, "value", name)).upper()
        is_state = pool == "MAMBA"
        pool = f"{self.pool_prefix}{pool}"
        for side, key in (("host", "host_pool"), ("device", "device_pool")):
            holder = values.get(key)
            if self.view(holder) is not None:
                self._learn(holder)
                if side == "host":
                    self._rows.name_host_pool(holder, pool)
                if is_state and side == "device":
                    self._states = holder
                yield PoolNaming(side=side, pool=pool, holder=holder)  # type: ignore[arg-type]
        for draft in values.get("packed_draft_device_pools") or ():
            self._learn(draft)
            name = f"{self.pool_prefix}{_DRAFT}"
            yield PoolNaming(side="device", pool=name, holder=draft)

    def _hisparse_namings(self, values: Values) -> Iterator[PoolNaming]:
        """Name the pools of a coordinator, which makes the one of the host itself."""
        coordinator = values["self"]
        host = coordinator.mem_pool_host
        self._learn(host)
        self._rows.name_host_pool(host, _KV)
        yield PoolNaming(side="host", pool=_KV, holder=host)
        yield PoolNaming(side="device", pool=_KV, holder=coordinator.mem_pool_device)

    def _draft_namings(self, values: Values) -> Iterator[PoolNaming]:
        for value in values.values():
            view = self.view(value)
            if view is not None:
                self._learn(value)
                name = f"{self.pool_prefix}{_DRAFT}"
                yield PoolNaming(side=view.side, pool=name, holder=value)

    def _host_namings(self, values: Values) -> Iterator[PoolNaming]:
        """Register the pools among constructor arguments: a pool may be used without any entry."""
        for name, value in values.items():
            if name != "self" and self.view(value) is not None:
                self._learn(value)
        yield from ()

    def _learn_constructed(self, values: Values, result: object) -> None:
        del result
        self._learn(next(iter(values.values())))

    def _observe_copy(self, values: Values, result: object) -> TransferObservation | None:
        """Return a copy between host and device; None for one within either.

        Raises:
            RecorderError: one side is memory of no known pool.
        """
        del result
        if values["backend"] == "torch":
            sides = {side: self._numbered(values, side) for side in ("source", "target")}
            values = {**values, **sides}
        source = self._locate(values, "source")
        target = self._locate(values, "target")
        is_backup = isinstance(source.buffer.pool, self._device_pools)
        if is_backup == isinstance(target.buffer.pool, self._device_pools):
            return None
        host, device = ("target", "source") if is_backup else ("source", "target")
        place = source if is_backup else target
        copied: CopiedRows = values[device]
        if is_backup:
            self.host_writes.add(target.buffer.pool, values[host], values["row_bytes"])
        moved = self._rows.moved(
            place,
            address=copied.address,
            stride=copied.stride,
            row_bytes=values["row_bytes"],
            rows=copied.rows,
        )
        return TransferObservation(
            direction="backup" if is_backup else "load",
            host_pool=(target if is_backup else source).buffer.pool,
            device_pool=moved.pool,
            plane=moved.plane,
            layer=moved.layer,
            device_slots=copied.rows,
            host_slots=values[host].rows,
            rows=moved.num,
            bytes=values["row_bytes"] * copied.rows.numel(),
            backend=values["backend"],
            stream=values["stream"],
        )

    def _numbered(self, values: Values, side: str) -> CopiedRows:
        """Return the rows of a copy by tensor operations, whose addresses alone are known."""
        return self.memory.numbered(values[side], row_bytes=values["row_bytes"])

    def _locate(self, values: Values, side: str) -> BufferLocation:
        copied: CopiedRows = values[side]
        place = self.memory.place(copied.address, row_stride=copied.stride)
        if place is None:
            backend = values["backend"]
            raise RecorderError(
                backend, f"{side} must be memory of a pool", expected="a known one", got="none"
            )
        return place

    def _pool_of(self, allocator: Any) -> object | None:  # noqa: ANN401 - any class that allocates
        if self.view(allocator) is not None:
            return allocator  # type: ignore[no-any-return]
        if not hasattr(allocator, "get_kvcache"):
            return self._states
        pool = allocator.get_kvcache()
        return pool if self.view(pool) is not None else None

    def _encode_group(self, value: Any, where: str) -> Plain:  # noqa: ANN401 - torch's own class
        del where
        named = self._name_group(value)
        return {"group": named.role, "ranks": list(named.ranks), "rank": named.rank}

    def _name_group(self, group: Any) -> GroupNaming:  # noqa: ANN401 - torch's own class
        group = torch.distributed.group.WORLD if group is None else group
        tag = self._group_tag(group)
        return GroupNaming(role=tag or "derived", ranks=ranks_of_group(group), rank=group.rank())


def _event_probe(
    function: object,
    family: str,
    nesting: Literal["every", "outermost", "innermost"],
    observe: Callable[[Values, Any], Observation | None],
) -> EventProbe:
    assert isinstance(function, FunctionType)
    return EventProbe(function=function, family=family, nesting=nesting, observe=observe)
