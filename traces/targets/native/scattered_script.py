"""Script over slots with gaps of 2 and 3, reversed and single ones; it reads after a reset too."""

from collections.abc import Sequence
from typing import Any

import torch
from typing_extensions import override

from traces.targets.native.scenarios import NativeScenario
from traces.targets.native.script import NativeScript

_TILE = 24
# Each side has its gaps where the other side's slots are consecutive: a copy of runs that looks at
# one side only, or at another distance than 1, moves wrong rows.
_DEVICE_ORDER = (0, 2, 4, 7, 10, 9, 8, 20, 12, 13, 14, 15)
_HOST_ORDER = (0, 1, 2, 3, 4, 5, 6, 8, 12, 14, 17, 18)


class ScatteredScript(NativeScript):
    """Steps of one scenario over scattered free slots, then a forward pass after a reset."""

    @override
    def __init__(self, scenario: NativeScenario, *, device: str) -> None:
        super().__init__(scenario, device=device)
        self._steps["read"] = self._read_after_reset

    @override
    def _build(self) -> None:
        super()._build()
        for allocator in self._device_pools.slot_owners.values():
            _scatter(allocator, _DEVICE_ORDER)
        for entry in self._group.entries:
            _scatter(entry.host_pool, _HOST_ORDER)

    def _read_after_reset(self) -> None:
        """Ask for every layer as a forward pass does that needs no load."""
        for layer in range(self._geometry.model.layer_span):
            self._enter_layer(layer)


def _scatter(allocator: Any, order: Sequence[int]) -> None:  # noqa: ANN401 - of either side
    """Free all slots in an order that repeats every ``_TILE`` slots; they are allocated in it."""
    slots = allocator.alloc(allocator.available_size())
    tile = [*order, *(at for at in range(_TILE) if at not in order)]
    places = [start + at for start in range(0, len(slots), _TILE) for at in tile]
    allocator.free(slots[torch.tensor([at for at in places if at < len(slots)])])
