"""Origins of the elements of intermediate results, so that copies through them are reported.

An operation that only moves elements is repeated on a tensor of the elements' addresses.
"""

import math
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from traces.targets.sglang.shims.footprint import picked_axis
from traces.targets.sglang.shims.kernel_moves import CopiedRows, report_copy
from traces.targets.sglang.shims.tracked_storage import StorageTable

_aten = torch.ops.aten
_MOVING_ONE = (_aten.clone.default, _aten.index.Tensor, _aten.index_select.default)
_MOVING_MANY = (_aten.cat.default, _aten.stack.default)
# Position of the source among the arguments.
_PUTTING = {_aten.index_copy_.default: 3, _aten.index_put_.default: 2}


class ElementOrigins:
    """Addresses that the elements of intermediate results were copied from."""

    def __init__(self, buffers: StorageTable) -> None:
        self._buffers = buffers
        self._origins: dict[StorageWeakRef, tuple[int, torch.Tensor]] = {}

    def follow(
        self,
        func: torch._ops.OpOverload,
        args: tuple[Any, ...],
        named: dict[str, Any],
        result: torch.Tensor,
    ) -> None:
        """Record the origins of a result's elements."""
        if func in _MOVING_ONE:
            origins = self._addresses(args[0])
            moved_origins = None if origins is None else func(origins, *args[1:], **named)
        elif func in _MOVING_MANY:
            each = [self._addresses(tensor) for tensor in args[0]]
            is_known = all(part is not None for part in each)
            moved_origins = func(each, *args[1:], **named) if is_known else None
        else:
            return
        if moved_origins is not None and result.numel():
            self._remember(result, moved_origins)

    def report(self, func: torch._ops.OpOverload, args: tuple[Any, ...], *, stream: str) -> None:
        """Report the bytes that an operation is about to move from a pool to a pool."""
        if func is _aten.copy_.default:
            (target, source), axis, index = args[:2], 0, None
        elif func in _PUTTING and (picked := picked_axis(args)) is not None:
            target, source, (axis, index) = args[0], args[_PUTTING[func]], picked
        else:
            return
        origins, places = self._addresses(source), self._addresses(target)
        if origins is None or places is None or source.element_size() != target.element_size():
            return
        if index is not None:
            places = places.index_select(axis, index.reshape(-1) % target.shape[axis])
        if places.numel():
            self._report_runs(
                str(func),
                origins.expand(places.shape).reshape(-1),
                places.reshape(-1),
                item_bytes=target.element_size(),
                row_items=places.shape[axis + 1 :].numel(),
                stream=stream,
            )

    def _report_runs(
        self,
        kernel: str,
        origins: torch.Tensor,
        places: torch.Tensor,
        *,
        item_bytes: int,
        row_items: int,
        stream: str,
    ) -> None:
        is_next = (origins.diff() == item_bytes) & (places.diff() == item_bytes)
        positions = torch.arange(1, origins.numel())
        starts = torch.cat(
            [torch.zeros(1, dtype=torch.int64), positions[~is_next | (positions % row_items == 0)]]
        )
        lengths = torch.cat([starts[1:], torch.tensor([origins.numel()])]) - starts
        for length in lengths.unique().tolist():
            chosen = starts[lengths == length]
            row_bytes = length * item_bytes
            report_copy(
                kernel=kernel,
                backend="torch",
                source=_as_rows(origins[chosen], row_bytes),
                target=_as_rows(places[chosen], row_bytes),
                row_bytes=row_bytes,
                stream=stream,
            )

    def _addresses(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the address each element came from, ``tensor.shape int64``; None when unknown."""
        buffer = self._buffers.find(tensor)
        item_bytes = tensor.element_size()
        if buffer is None:
            return None
        if buffer.is_pool:
            addresses = torch.tensor(tensor.data_ptr())
            for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
                steps = torch.arange(size) * (stride * item_bytes)
                addresses = addresses + steps.view(-1, *[1] * (tensor.dim() - axis - 1))
            return addresses
        size, origins = self._origins.get(
            StorageWeakRef(tensor.untyped_storage()), (0, torch.empty(0))
        )
        if size != item_bytes:
            return None
        return origins.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def _remember(self, result: torch.Tensor, origins: torch.Tensor) -> None:
        living = {ref: known for ref, known in self._origins.items() if not ref.expired()}
        storage = result.untyped_storage()
        item_bytes = result.element_size()
        flat = torch.zeros(storage.nbytes() // item_bytes, dtype=torch.int64)
        flat.as_strided(result.shape, result.stride(), result.storage_offset()).copy_(origins)
        self._origins = {**living, StorageWeakRef(storage): (item_bytes, flat)}


def _as_rows(addresses: torch.Tensor, row_bytes: int) -> CopiedRows:
    """Return runs that begin at some addresses as rows of one stride."""
    first = int(addresses.min())
    stride = math.gcd(*(addresses - first).tolist())
    stride = row_bytes if stride == 0 else stride
    return CopiedRows(address=first, stride=stride, rows=(addresses - first) // stride)
