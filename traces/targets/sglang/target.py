"""The installed release of sglang as a target: its seams, types and pools.

What a call or a pool *means* is taken from published names that every release has (``PoolEntry``,
``HostPoolGroup``, ``HiCacheController``); everything else is searched for, see
:mod:`traces.targets.sglang.discovery`. Transfers are seen where bytes move, below every release's
own way of asking for them.
"""

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import torch

from traces.errors import RecorderError
from traces.recording.encode import Encoder, Plain
from traces.recording.probes import (
    AllocationObservation,
    CallProbe,
    EventProbe,
    PoolNaming,
    PoolView,
    Probe,
    ReleaseObservation,
    StorageObservation,
    TransferObservation,
    Values,
)
from traces.targets.common.planes import Plane
from traces.targets.common.pool_buffers import buffers_of
from traces.targets.common.probes import method_probe, register_device_types
from traces.targets.sglang.callbacks import CALLBACK, callback
from traces.targets.sglang.discovery import PACKAGE, SglangRelease, method_definitions
from traces.targets.sglang.memory_map import BufferLocation, MemoryMap
from traces.targets.sglang.row_table import RowTable
from traces.targets.sglang.shims import report_copy
from traces.targets.sglang.storage import report_storage_use

_DRAFT = "DRAFT"
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

    Args:
        release: what it has.
        is_pinned: whether a host buffer is page-locked.
        group_tag: returns the role of a process group (``tp``), None for an unknown one.
        order_probes: returns a probe for every way to order work of the device.
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
        self._release = release
        self._is_pinned = is_pinned
        self._group_tag = group_tag
        self._order_probes = order_probes
        self._host_pools = release.host_pools()
        self._device_pools = release.device_pools()
        self._states: object | None = None
        self._rows = RowTable(self.memory)
        # What a release logs is no contract; the recorder insists on hearing warnings.
        logging.getLogger(PACKAGE).setLevel(logging.WARNING)

    def builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders and strategies, sorted."""
        return self._release.stack_builders()

    def probes(self) -> list[Probe]:
        """Return everything that is to be watched, each function once."""
        found: list[Probe] = [*self._builder_seams(), *self._constructor_seams()]
        found += [*self._operation_seams(), *self._slot_seams(), *self._order_probes()]
        found += self._device_pool_seams()
        assert isinstance(report_copy, FunctionType)
        assert isinstance(report_storage_use, FunctionType)
        found.append(
            EventProbe(
                function=report_copy, family="move", nesting="every", observe=self._observe_copy
            )
        )
        found.append(
            EventProbe(
                function=report_storage_use,
                family="storage",
                nesting="every",
                observe=_observe_storage_use,
            )
        )
        found.append(_callback_seam())
        return list({seam.function: seam for seam in found}.values())

    def register_types(self, encoder: Encoder) -> None:
        """Register the package's types: published dataclasses by value, the rest by reference."""
        encoder.register_package(PACKAGE)
        encoder.register_reference(SimpleNamespace, "Namespace")
        for cls in self._release.classes():
            if issubclass(cls, Enum | BaseException):
                continue
            if cls.__name__ in _BY_VALUE:
                encoder.register_value(cls)
            else:
                encoder.register_reference(cls, cls.__name__)
        register_device_types(encoder)
        encoder.register(torch.distributed.ProcessGroup, self._encode_group)
        encoder.register(slice, _encode_slice)

    def view(self, pool: object) -> PoolView | None:
        """Return how to read ``pool``; None when it is no pool."""
        if isinstance(pool, self._host_pools):
            layout = getattr(pool, "layout", "")
            return PoolView(
                side="host",
                layout=layout if isinstance(layout, str) else "",
                is_pinned=self._is_pinned,
                tensors=self._own_buffers,
                rows=self._rows.of_host_pool,
            )
        if isinstance(pool, self._device_pools):
            return PoolView(
                side="device",
                layout="",
                is_pinned=lambda _: False,
                tensors=self._own_buffers,
                rows=lambda _: self._rows.of_device_buffer,
            )
        return None

    def learn_rows(self, planes: Iterable[Plane]) -> None:
        """Make the rows of all device pools known; they are recorded with the buffers."""
        self._rows.learn(planes)

    def _learn(self, pool: object) -> None:
        self.memory.learn(pool, apart=self._referenced_types(pool))

    def _own_buffers(self, pool: object) -> Iterable[tuple[str, torch.Tensor]]:
        is_host = isinstance(pool, self._host_pools)
        return (
            (buffer.name, buffer.tensor)
            for buffer in buffers_of(pool, apart=self._referenced_types(pool))
            if not (is_host and self._is_on_device(buffer.tensor.data_ptr()))
        )

    def _is_on_device(self, address: int) -> bool:
        """Tell whether memory is a device pool's: host pools keep lists of what they mirror."""
        found = self.memory.find(address)
        return found is not None and isinstance(found.pool, self._device_pools)

    def _referenced_types(self, pool: object) -> tuple[type, ...]:
        """Return what a pool only refers to: a host pool knows the device pools it mirrors."""
        is_host = isinstance(pool, self._host_pools)
        return (*self._device_pools, *self._host_pools) if is_host else ()

    def _builder_seams(self) -> Iterator[Probe]:
        for name, function in self._release.builder_functions().items():
            yield CallProbe(function=function, callee=name, role="builder", method="", claims=None)
        for cls, function in method_definitions(self._release.strategies(), "build"):
            yield method_probe(cls, function, role="builder", claims=None)

    def _constructor_seams(self) -> Iterator[Probe]:
        entry, group = self._release.find("PoolEntry"), self._release.find("HostPoolGroup")
        wiring = tuple(cls for cls in (entry, group) if cls is not None)
        for cls, function in method_definitions(
            (*self._host_pools, *self._release.controllers(), *wiring), "__init__"
        ):
            claims = self._entry_claims if cls is entry else self._host_claims
            yield method_probe(cls, function, role="constructor", claims=claims)

    def _operation_seams(self) -> Iterator[Probe]:
        for name in _OPERATIONS:
            for cls, function in method_definitions(self._release.controllers(), name):
                claims = self._draft_claims if name == "set_draft_kv_pool" else None
                yield method_probe(cls, function, role="operation", claims=claims)

    def _device_pool_seams(self) -> Iterator[Probe]:
        """Yield seams that tell nothing: memory is a device pool's before a host pool lists it."""
        for _, function in method_definitions(self._device_pools, "__init__"):
            yield EventProbe(
                function=function,
                family="device pool",
                nesting="outermost",
                observe=self._learn_constructed,
            )

    def _slot_seams(self) -> Iterator[Probe]:
        owners = self._release.allocators()
        for _, function in method_definitions(owners, "alloc"):
            yield EventProbe(
                function=function,
                family="alloc",
                nesting="innermost",
                observe=self._observe_allocation,
            )
        frees = {
            "free": self._observe_free,
            "free_segment": self._observe_free,
            "free_page_ids": self._observe_page_free,
        }
        for name, observe in frees.items():
            for _, function in method_definitions(owners, name):
                yield EventProbe(
                    function=function, family="free", nesting="innermost", observe=observe
                )

    def _entry_claims(self, values: Values) -> Iterator[PoolNaming]:
        name = values["name"]
        pool = str(getattr(name, "value", name)).upper()
        for side, key in (("host", "host_pool"), ("device", "device_pool")):
            holder = values.get(key)
            if self.view(holder) is not None:
                self._learn(holder)
                if side == "host":
                    self._rows.name_host_pool(holder, pool)
                if pool == "MAMBA" and side == "device":
                    self._states = holder
                yield PoolNaming(side=side, pool=pool, holder=holder)  # type: ignore[arg-type]
        for draft in values.get("packed_draft_device_pools") or ():
            self._learn(draft)
            yield PoolNaming(side="device", pool=_DRAFT, holder=draft)

    def _draft_claims(self, values: Values) -> Iterator[PoolNaming]:
        for value in values.values():
            view = self.view(value)
            if view is not None:
                self._learn(value)
                yield PoolNaming(side=view.side, pool=_DRAFT, holder=value)

    def _host_claims(self, values: Values) -> Iterator[PoolNaming]:
        """A pool or controller may be used without any entry: learn what it was built from."""
        for value in values.values():
            if self.view(value) is not None:
                self._learn(value)
        yield from ()

    def _learn_constructed(self, values: Values, result: object) -> None:
        del result
        self._learn(next(iter(values.values())))

    def _observe_copy(self, values: Values, result: object) -> TransferObservation | None:
        """Tell what was moved; None when device memory is on neither side, or on both.

        Raises:
            RecorderError: one side is memory of no pool that is known.
        """
        del result
        source = self._locate(values, "source")
        target = self._locate(values, "target")
        is_backup = isinstance(source.buffer.pool, self._device_pools)
        if is_backup == isinstance(target.buffer.pool, self._device_pools):
            return None
        host, device = ("target", "source") if is_backup else ("source", "target")
        place = source if is_backup else target
        device_rows = values[f"{device}_rows"]
        moved = self._rows.moved(
            place, address=values[device], stride=values[f"{device}_stride"], num=len(device_rows)
        )
        return TransferObservation(
            direction="backup" if is_backup else "load",
            host_pool=(target if is_backup else source).buffer.pool,
            device_pool=moved.pool,
            plane=moved.plane,
            layer=place.layer,
            device_slots=device_rows,
            host_slots=values[f"{host}_rows"],
            rows=moved.num,
            bytes=values["row_bytes"] * values["source_rows"].numel(),
            backend=values["backend"],
            stream=values["stream"],
        )

    def _locate(self, values: Values, side: str) -> BufferLocation:
        place = self.memory.place(values[side], row_stride=values[f"{side}_stride"])
        if place is None:
            backend = values["backend"]
            raise RecorderError(
                backend, f"{side} must be memory of a pool", expected="a known one", got="none"
            )
        return place

    def _observe_allocation(self, values: Values, result: Any) -> AllocationObservation | None:  # noqa: ANN401
        allocator, need = _first_two(values)
        if not isinstance(need, int) or not (result is None or isinstance(result, torch.Tensor)):
            return None
        pool = self._pool_of(allocator)
        return None if pool is None else AllocationObservation(pool=pool, need=need, slots=result)

    def _observe_free(self, values: Values, result: object) -> ReleaseObservation | None:
        del result
        allocator, slots = _first_two(values)
        pool = self._pool_of(allocator)
        if pool is None or not isinstance(slots, torch.Tensor) or slots.numel() == 0:
            return None
        return ReleaseObservation(pool=pool, slots=slots)

    def _observe_page_free(self, values: Values, result: object) -> ReleaseObservation | None:
        allocator, pages = _first_two(values)
        if not isinstance(pages, torch.Tensor):
            return None
        within = torch.arange(allocator.page_size, device=pages.device)
        slots = (pages[:, None] * allocator.page_size + within).flatten()
        return self._observe_free({"allocator": allocator, "slots": slots}, result)

    def _pool_of(self, allocator: Any) -> object | None:  # noqa: ANN401 - any class that allocates
        if self.view(allocator) is not None:
            return allocator  # type: ignore[no-any-return]
        if not hasattr(allocator, "get_kvcache"):
            return self._states
        pool = allocator.get_kvcache()
        return pool if self.view(pool) is not None else None

    def _encode_group(self, value: Any, where: str) -> Plain:  # noqa: ANN401 - torch's own class
        del where
        ranks = torch.distributed.get_process_group_ranks(value)
        tag = self._group_tag(value)
        return {
            "group": "derived" if tag is None else tag,
            "ranks": list(ranks),
            "rank": value.rank(),
        }


def _observe_storage_use(values: Values, result: object) -> StorageObservation:
    del result
    return StorageObservation(
        operation=values["operation"],
        pool=values["pool"],
        key=values["key"],
        bytes=values["size"],
    )


def _first_two(values: Values) -> tuple[Any, Any]:
    """Return object and first argument: releases name the latter differently."""
    allocator, argument, *_ = (*values.values(), None)
    return allocator, argument


def _callback_seam() -> CallProbe:
    assert isinstance(callback, FunctionType)
    return CallProbe(function=callback, callee=CALLBACK, role="operation", method="", claims=None)


def _encode_slice(value: slice, where: str) -> Plain:
    del where
    return {"slice": [value.start, value.stop, value.step]}
