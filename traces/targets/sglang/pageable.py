"""Pageable memory where torch cannot allocate page-locked memory without a driver."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch


@contextmanager
def pageable_zeros() -> Iterator[None]:
    """Allocate what ``torch.zeros`` makes pageable, until the block ends."""
    zeros = torch.zeros

    def pageable(*sizes: Any, pin_memory: bool = False, **named: Any) -> torch.Tensor:  # noqa: ANN401
        del pin_memory
        return zeros(*sizes, **named)

    with patch.object(torch, "zeros", pageable):
        yield
