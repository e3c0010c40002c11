"""Tensors among the arguments and results of a tensor operation."""

from collections.abc import Iterator

import torch


def tensors_in(values: object) -> Iterator[torch.Tensor]:
    """Yield the tensors of a value in order.

    Operations take and return tensors, plain values, and lists, tuples and mappings of them; a
    general walk over trees costs more than most operations.
    """
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))
