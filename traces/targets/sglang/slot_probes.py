"""Probes of the allocators of a release: the slots that they hand out and take back."""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch

from traces.recording.probes import (
    AllocationObservation,
    EventProbe,
    ReleaseObservation,
    Values,
)
from traces.targets.sglang.discovery import method_definitions

_Observe: TypeAlias = Callable[[Values, Any], AllocationObservation | ReleaseObservation | None]


class SlotProbes:
    """Probes of classes that allocate; ``pool_of`` returns the pool whose slots one hands out."""

    def __init__(
        self,
        allocators: tuple[type, ...],
        pool_of: Callable[[Any], object | None],
    ) -> None:
        self._allocators = allocators
        self._pool_of = pool_of

    def probes(self) -> Iterator[EventProbe]:
        """Yield a probe of every function that hands out slots or takes them back."""
        observed: tuple[tuple[str, str, _Observe], ...] = (
            ("alloc", "alloc", self._observe_allocation),
            ("free", "free", self._observe_free),
            ("free_segment", "free", self._observe_free),
            ("free_page_ids", "free", self._observe_page_free),
        )
        for name, family, observe in observed:
            for _, function in method_definitions(self._allocators, name):
                yield EventProbe(
                    function=function, family=family, nesting="innermost", observe=observe
                )

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


def _first_two(values: Values) -> tuple[Any, Any]:
    """Return object and first argument: releases name the latter differently."""
    allocator, argument, *_ = (*values.values(), None)
    return allocator, argument
