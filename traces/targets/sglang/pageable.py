"""Memory that differs from what a release asks for: not page-locked, or with defined content."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch


@contextmanager
def pageable(maker: str) -> Iterator[None]:
    """Allocate what a function of torch makes (``zeros``) pageable, until the block ends."""
    make = getattr(torch, maker)

    def make_pageable(*given: Any, pin_memory: bool = False, **named: Any) -> torch.Tensor:  # noqa: ANN401
        del pin_memory
        made: torch.Tensor = make(*given, **named)
        return made

    with patch.object(torch, maker, make_pageable):
        yield


@contextmanager
def defined_content() -> Iterator[None]:
    """Clear what ``torch.empty`` allocates, until the block ends.

    Rows of a device pool that nothing writes show in digests and in storage: there they must be the
    same in every run, whatever the process had in that memory before.
    """
    zeros = torch.zeros

    def cleared(*sizes: Any, memory_format: Any = None, **named: Any) -> torch.Tensor:  # noqa: ANN401
        del memory_format
        return zeros(*sizes, **named)

    with patch.object(torch, "empty", cleared):
        yield
