"""Tensors among the arguments and results of a tensor operation."""

from collections.abc import Iterable

import torch

_PLAIN = frozenset({int, float, bool, str, type(None), torch.dtype, torch.device, torch.layout})


def tensors_in(values: object) -> list[torch.Tensor]:
    """Return the tensors of a value in order.

    Operations take and return tensors, plain values, and lists, tuples and mappings of them; a
    general walk over trees costs more than most operations.
    """
    found: list[torch.Tensor] = []
    _collect((values,), found)
    return found


def _collect(values: Iterable[object], found: list[torch.Tensor]) -> None:
    for value in values:
        if type(value) in _PLAIN:
            continue
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            _collect(value, found)
        elif isinstance(value, dict):
            _collect(value.values(), found)
