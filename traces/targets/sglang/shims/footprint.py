"""Memory accesses of tensor operations."""

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from assembler.device import MemoryAccess, row_access, tensor_access
from traces.targets.sglang.shims.interception import InterceptionPause
from traces.targets.sglang.shims.operands import tensors_in

_aten = torch.ops.aten
_READ_ROWS = (_aten.index_select.default, _aten.index.Tensor)
_WRITE_ROWS = (
    _aten.index_copy_.default,
    _aten.index_fill_.int_Scalar,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
)


def footprint(
    func: torch._ops.OpOverload,
    args: tuple[Any, ...],
    named: dict[str, Any],
    *,
    pause: InterceptionPause,
) -> tuple[list[MemoryAccess], list[MemoryAccess]]:
    """Return the reads and the writes of an operation.

    Operations on selected rows access those rows; all others access every element.
    Row numbers are read when the operation runs, in ``pause``.
    """
    if func in _READ_ROWS and isinstance(args[0], torch.Tensor):
        reads = _rows(args, pause)
        return [*reads, *map(tensor_access, tensors_in(args[1:]))], []
    if func in _WRITE_ROWS:
        writes = _rows(args, pause)
        return [*map(tensor_access, tensors_in((args[1:], named)))], writes
    written = written_operands(func, args, named)
    numbers = set(map(id, written))
    reads = [
        tensor_access(tensor) for tensor in tensors_in((args, named)) if id(tensor) not in numbers
    ]
    return reads, list(map(tensor_access, written))


def written_operands(
    func: torch._ops.OpOverload, args: tuple[Any, ...], named: dict[str, Any]
) -> list[torch.Tensor]:
    """Return the operands that an operation writes to."""
    written: list[torch.Tensor] = []
    for position, name in _written_parameters(func):
        written += tensors_in(args[position] if position < len(args) else named.get(name))
    return written


@cache
def _written_parameters(func: torch._ops.OpOverload) -> tuple[tuple[int, str], ...]:
    """Return the places and names of the parameters that an operation writes to."""
    return tuple(
        (position, argument.name)
        for position, argument in enumerate(func._schema.arguments)  # noqa: SLF001 - no other way
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def picked_axis(args: tuple[Any, ...]) -> tuple[int, torch.Tensor] | None:
    """Return the axis along which an operation selects rows, and their numbers; None if unclear."""
    if not isinstance(args[1], Sequence):
        return args[1] % max(args[0].dim(), 1), args[2]
    given = [(axis, index) for axis, index in enumerate(args[1]) if index is not None]
    if len(given) != 1 or given[0][1].dtype in (torch.bool, torch.uint8):
        return None
    return given[0]


def _rows(args: tuple[Any, ...], pause: InterceptionPause) -> list[MemoryAccess]:
    picked = picked_axis(args)
    tensor: torch.Tensor = args[0]
    if picked is None or tensor.numel() == 0:
        return [tensor_access(tensor)]
    axis, index = picked
    row_num = tensor.shape[axis]
    outer = itertools.product(*map(range, tensor.shape[:axis]))
    parts = [tensor[place] for place in outer]
    if not parts[0][0].is_contiguous():
        return [tensor_access(tensor)]

    def numbers() -> torch.Tensor:
        with pause:
            return index.reshape(-1) % row_num

    return [row_access(part, numbers) for part in parts]
