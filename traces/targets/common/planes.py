"""Planes of device pools: rows found in their buffers, tied to the slots that number them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import torch

from traces.targets.common.content import RowBuffer
from traces.targets.common.pool_buffers import PoolBuffer, buffers_of

_ROW_AXES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotDomain:
    """A set of slots that pools share, by the pool that allocates them: KV, SWA, MAMBA."""

    name: str
    slot_num: int
    page_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One kind of row (``kv_buffer``) of one pool, numbered by the slots of ``domain``."""

    pool: str
    plane: str
    domain: SlotDomain
    layers: tuple[RowBuffer, ...]

    @property
    def name(self) -> str:
        """Pool and kind: ``KV.kv_buffer``."""
        return f"{self.pool}.{self.plane}"


def planes_of(
    owner: str, pool: object, domain: SlotDomain, *, host: object, taken: set[int]
) -> Iterator[Plane]:
    """Yield the planes of a pool whose rows the slots of ``domain`` number.

    Memory without a row for every slot (tables, scratch, rings of their own) is left out, and so
    are the buffers of other pools, whose addresses are in ``taken``; those of yielded planes are
    added. ``host`` is the host pool that mirrors the pool, None without one.
    """
    groups: dict[str, list[PoolBuffer]] = {}
    for buffer in buffers_of(pool):
        if buffer.tensor.data_ptr() not in taken:
            groups.setdefault(buffer.attribute, []).append(buffer)
    for buffers in groups.values():
        plane = _plane(owner, buffers, domain, host)
        if plane is not None:
            taken.update(buffer.tensor.data_ptr() for buffer in buffers)
            yield from plane


def _plane(
    owner: str, buffers: Sequence[PoolBuffer], domain: SlotDomain, host: object
) -> Iterator[Plane] | None:
    first, tensors = buffers[0], [buffer.tensor for buffer in buffers]
    flat = _slots_per_row(first.tensor, axis=0, domain=domain)
    if flat is None:
        flat = _slots_per_mirrored_row(tensors, domain, host)
    if flat is not None:
        return iter([_layers(owner, first.attribute, tensors, domain, flat)])
    stacked = _slots_per_row(first.tensor, axis=1, domain=domain)
    if stacked is None:
        return None
    names = [first.attribute]
    if len(buffers) > 1:
        names = [f"{first.attribute}_{number}" for number, _ in enumerate(buffers)]
    return (
        _layers(owner, name, list(buffer.tensor), domain, stacked)
        for name, buffer in zip(names, buffers, strict=True)
    )


def _layers(
    pool: str, plane: str, tensors: Sequence[torch.Tensor], domain: SlotDomain, slots_per_row: int
) -> Plane:
    layers = tuple(
        RowBuffer(
            pool=pool,
            plane=plane,
            label=f"{pool}.{plane}[{layer}]",
            layer=layer,
            tensor=tensor,
            slots_per_row=slots_per_row,
        )
        for layer, tensor in zip(count(), tensors)
    )
    return Plane(pool=pool, plane=plane, domain=domain, layers=layers)


def _slots_per_row(tensor: torch.Tensor, *, axis: int, domain: SlotDomain) -> int | None:
    """Return the number of slots that share a row, None where an axis does not number slots.

    It is the smallest part of a page with which there is a row for every slot. Beside those there
    are at most the rows of one page and one more: whatever is larger is numbered by something else.
    """
    if tensor.dim() <= axis + 1 or not tensor[(0,) * axis].is_contiguous():
        return None
    rows = tensor.shape[axis]
    for slots_per_row in range(1, domain.page_size + 1):
        if domain.page_size % slots_per_row == 0 and rows * slots_per_row >= domain.slot_num:
            most = domain.slot_num + domain.page_size + slots_per_row
            return slots_per_row if rows * slots_per_row <= most else None
    return None


def _slots_per_mirrored_row(
    layers: Sequence[torch.Tensor], domain: SlotDomain, host: object
) -> int | None:
    """Return the slots that share a row of the host pool, which holds rows as wide and no others.

    Pools of compressed rows have rows to spare that no slot numbers.
    """
    slot_num = getattr(host, "size", None)
    first = layers[0]
    if not isinstance(slot_num, int) or first.dim() < _ROW_AXES or not first.is_contiguous():
        return None
    tensors = [buffer.tensor for buffer in buffers_of(host)]
    held = sum(tensor.numel() for tensor in tensors if _is_mirror(tensor, first))
    row_num, rest = divmod(held, first[0].numel() * len(layers))
    if row_num == 0 or rest or slot_num % row_num:
        return None
    slots_per_row = slot_num // row_num
    divides = domain.page_size % slots_per_row == 0
    return slots_per_row if divides and len(first) * slots_per_row >= domain.slot_num else None


def _is_mirror(tensor: torch.Tensor, layer: torch.Tensor) -> bool:
    """Return whether a buffer is page-locked memory in rows as wide as those of a layer."""
    return (
        tensor.dtype == layer.dtype and tensor.shape[-1] == layer.shape[-1] and tensor.is_pinned()
    )
