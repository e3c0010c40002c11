"""Rows of device pools that a release made itself, where pools of several kinds share memory.

A slot is a number that the allocator hands out; which row it stands for, the pools say. Rows of
slots, of the windows behind them and of states lie among each other in one piece of memory, so that
a walk over the buffers of a pool cannot tell them apart: every layer is asked for by its number, as
attention asks.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from traces.schema.pools import ExportedBuffer, PoolAnswer
from traces.targets.common.content import RowBuffer
from traces.targets.common.pool_buffers import buffers_of
from traces.targets.sglang.errors import UnsupportedByRelease
from traces.targets.sglang.geometry import SglangGeometry
from traces.targets.sglang.pool_answers import failure_text

KV, SWA, MAMBA = "KV", "SWA", "MAMBA"

_MEMORY, _REGISTRATION = "memory", "get_contiguous_buf_infos"
_SLOT_BUFFERS = {"get_key_buffer": "k", "get_value_buffer": "v"}
_STATES, _LAYER_STATES = "mamba_pool", "mamba2_layer_cache"
# Functions from slots to rows, of the release's pools and allocators; the first one there is.
_TRANSLATIONS = {
    KV: ("translate_kv_loc_for_kernel", "translate_kv_loc"),
    SWA: ("translate_loc_from_full_to_swa",),
    MAMBA: ("translate_mamba_indices",),
}
# Pages, slots of a page, heads, and elements of a head.
_PAGED_AXES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRows:
    """The rows of one kind of slots in every layer.

    Attributes:
        domain: ``KV``, ``SWA`` for the windows behind slots, ``MAMBA`` for states.
        buffers: one for each plane and layer; a row need not be next to the one before it.
        translate: from slots that an allocator handed out, int64, to their places among rows.
    """

    domain: str
    buffers: tuple[RowBuffer, ...]
    translate: Callable[[torch.Tensor], torch.Tensor]

    def places_of(self, slots: torch.Tensor) -> torch.Tensor:
        """Return the places of slots among rows, int64 on the host; below 1 for no place."""
        return self.translate(slots).long().cpu()


def row_groups(geometry: SglangGeometry, made: Mapping[str, Any]) -> tuple[SlotRows, ...]:
    """Return the rows of every kind of slots that a model has.

    ``made`` are the request table, the allocator and the pool that attention reads from, in order.
    """
    requests, allocator, kvcache = made.values()
    model = geometry.model
    layers = {KV: model.full_layers, SWA: model.swa_layers, MAMBA: model.state_layers}
    holders = {KV: (allocator,), SWA: (kvcache, allocator), MAMBA: (requests,)}
    find = {KV: _slot_buffers, SWA: _slot_buffers, MAMBA: _state_buffers}
    owner = {KV: kvcache, SWA: kvcache, MAMBA: requests}
    return tuple(
        SlotRows(
            domain=domain,
            buffers=tuple(find[domain](domain, owner[domain], geometry.global_ids(own))),
            translate=_translation(_TRANSLATIONS[domain], holders[domain]),
        )
        for domain, own in layers.items()
        if own
    )


def share_memory(geometry: SglangGeometry, made: Mapping[str, Any]) -> bool:
    """Return whether the pools of different kinds of slots lie in one piece of memory.

    For ``made`` see :func:`row_groups`.
    """
    requests, _, kvcache = made.values()
    inner = geometry.family.inner_pools
    pools = [getattr(kvcache, name, None) for kind in (KV, SWA) if (name := inner.get(kind))]
    pools.append(getattr(requests, _STATES, None))
    pieces = [
        {_address(buffer.tensor) for buffer in buffers_of(pool)}
        for pool in pools
        if pool is not None
    ]
    return len(set[int]().union(*pieces)) < sum(len(own) for own in pieces)


def storages(groups: Sequence[SlotRows]) -> list[torch.Tensor]:
    """Return every piece of memory that the rows lie in, as ``(bytes,) uint8``."""
    found = {
        _address(buffer.tensor): buffer.tensor.untyped_storage()
        for group in groups
        for buffer in group.buffers
    }
    return [
        torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
        for storage in found.values()
    ]


def registrations(
    pools: Mapping[str, Any], memories: Sequence[torch.Tensor], *, step: str
) -> Iterator[PoolAnswer]:
    """Yield what each pool of the release gives out for transfers of its memory, by its name."""
    for name, pool in pools.items():
        if not hasattr(pool, _REGISTRATION):
            continue
        buffers, reason = tuple[ExportedBuffer, ...](), ""
        try:
            buffers = tuple(_registered(pool, memories))
        except Exception as error:  # noqa: BLE001 - recorded as the reason
            reason = failure_text(error)
        yield PoolAnswer(
            step=step,
            holder=f"{step}.{name}",
            method=_REGISTRATION,
            buffers=buffers,
            views=(),
            values=None,
            reason=reason,
        )


def _registered(pool: Any, memories: Sequence[torch.Tensor]) -> Iterator[ExportedBuffer]:  # noqa: ANN401
    for pointer, size, item in zip(*getattr(pool, _REGISTRATION)(), strict=True):
        for memory in memories:
            offset = int(pointer) - memory.data_ptr()
            if 0 <= offset < memory.nbytes:
                yield ExportedBuffer(
                    pool="",
                    plane=_MEMORY,
                    layer=None,
                    layers=0,
                    offset=offset,
                    bytes=int(size),
                    item_bytes=int(item),
                    held_bytes=memory.nbytes - offset,
                    page_bytes=0,
                )


def bytes_like(buffer: RowBuffer, memory: torch.Tensor) -> torch.Tensor:
    """Return the bytes of ``memory`` that lie where a buffer's rows lie in their own.

    Args:
        buffer: rows in one piece of memory.
        memory: as long as that piece, ``(bytes,) uint8``.

    Returns:
        ``(rows, bytes of a row) uint8``, a view.
    """
    rows = buffer.tensor
    size = rows.element_size()
    return memory.as_strided(
        (rows.shape[0], rows[0].nbytes), (rows.stride(0) * size, 1), rows.storage_offset() * size
    )


def memory_of(buffer: RowBuffer, memories: Sequence[torch.Tensor]) -> int:
    """Return the place of a buffer's memory among all pieces."""
    return [one.data_ptr() for one in memories].index(_address(buffer.tensor))


def _slot_buffers(domain: str, kvcache: Any, layers: Sequence[int]) -> Iterator[RowBuffer]:  # noqa: ANN401
    for number, layer in enumerate(layers):
        seen: set[int] = set()
        for accessor, plane in _SLOT_BUFFERS.items():
            tensor: torch.Tensor = getattr(kvcache, accessor)(layer)
            # Values of compressed attention are a part of the keys.
            if tensor.data_ptr() not in seen:
                seen.add(tensor.data_ptr())
                yield _buffer(domain, plane, number, tensor)


def _state_buffers(domain: str, requests: Any, layers: Sequence[int]) -> Iterator[RowBuffer]:  # noqa: ANN401
    for number, layer in enumerate(layers):
        states = getattr(requests, _LAYER_STATES)(layer)
        for place, tensor in enumerate(states.conv):
            yield _buffer(domain, f"conv_{place}", number, tensor)
        if states.temporal is not None and states.temporal.numel():
            yield _buffer(domain, "temporal", number, states.temporal)


def _buffer(domain: str, plane: str, layer: int, tensor: torch.Tensor) -> RowBuffer:
    """Return rows; with an axis for the slots of a page, a page is one."""
    is_paged = domain != MAMBA and tensor.dim() == _PAGED_AXES
    if not tensor[0].is_contiguous():
        raise UnsupportedByRelease(f"{domain}.{plane}: a row must be one piece of memory")
    return RowBuffer(
        pool=domain,
        plane=plane,
        label=f"{domain}.{plane}[{layer}]",
        layer=layer,
        tensor=tensor,
        slots_per_row=tensor.shape[1] if is_paged else 1,
    )


def _translation(
    names: Sequence[str], holders: Sequence[Any]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the first function there is by its name; slots are rows where nobody has one."""
    found = (getattr(holder, name, None) for name in names for holder in holders)
    return next((one for one in found if one is not None), lambda slots: slots)


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
