"""Peers of this rank that have less than it, in what ranks agree on by a minimum.

A scenario is one rank, and its process groups change nothing, as if every peer had what it has. A
release that goes on with its own number instead of the agreed one looks right that way.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch.distributed

_MINIMUM = torch.distributed.ReduceOp.MIN


@contextmanager
def peer_behind() -> Iterator[None]:
    """Have a peer that has finished nothing yet: every minimum is 0 while the block runs."""
    with _minimum(lambda agreed: agreed.clamp_(max=0)):
        yield


@contextmanager
def peer_with_fewer(
    tokens: int, *, page_size: int, is_short: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Have a peer with a page less than ``tokens`` where ranks agree on those, in the block.

    It has the last page all the same where ``is_short`` returns False.
    """

    def lower(agreed: torch.Tensor) -> None:
        if is_short():
            agreed.sub_((agreed == tokens).to(agreed.dtype) * page_size)

    with _minimum(lower):
        yield


@contextmanager
def _minimum(lower: Callable[[torch.Tensor], object]) -> Iterator[None]:
    """Call ``lower`` with the tensor of each reduction to a minimum, once it is reduced."""
    reduce = torch.distributed.all_reduce
    signature = inspect.signature(reduce)

    def reduce_with_peer(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - those of torch
        result = reduce(*arguments, **named)
        given = signature.bind(*arguments, **named).arguments
        if given.get("op") == _MINIMUM:
            lower(given["tensor"])
        return result

    with patch.object(torch.distributed, "all_reduce", reduce_with_peer):
        yield
