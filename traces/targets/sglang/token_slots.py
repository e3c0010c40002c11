"""Allocation of slots for tokens as for requests: full KV slots, and window slots behind them."""

from typing import Any

import torch

from traces.targets.sglang.assembly import AssembledStack

_TRANSLATE = "translate_loc_from_full_to_swa"
_SET_WINDOW = "set_full_to_swa_mapping"


class TokenSlots:
    """Allocates whole pages by a stack's outer allocator."""

    def __init__(self, stack: AssembledStack) -> None:
        self._allocator: Any = stack.allocator
        self._pool: Any = stack.kvcache
        self._full: Any = stack.full_allocator

    @property
    def has_windows(self) -> bool:
        """True where slots have window slots behind them."""
        return getattr(self._allocator, "swa_attn_allocator", None) is not None

    def has_room(self, need: int) -> bool:
        """Return whether ``need`` slots are free, and as many window slots where there are any."""
        return self.room() >= need

    def room(self) -> int:
        """Return how many slots can be taken, windows included where there are any."""
        return int(self._allocator.available_size())

    def full_num(self) -> int:
        """Return how many KV slots are free."""
        return int(self._full.available_size())

    def take(self, need: int) -> torch.Tensor | None:
        """Take slots, ``(need,) int64`` in device memory; None where there is no room."""
        windows = getattr(self._allocator, "swa_attn_allocator", None)
        if windows is None:
            slots: torch.Tensor | None = self._allocator.alloc(need)
            return slots
        if not self.has_room(need):
            return None
        # A windowed allocator of pages allocates for running requests only; this does the same.
        taken: torch.Tensor = self._full.alloc(need)
        self._set_window(taken, windows.alloc(need))
        return taken

    def return_slots(self, slots: torch.Tensor) -> None:
        """Free slots, and those of their windows."""
        self._allocator.free(slots)

    def windows(self, slots: torch.Tensor) -> torch.Tensor:
        """Return the window slots behind KV slots, int64; 0 for slots without one.

        The pool is asked, as attention does, which knows the mapping that was registered with it.
        """
        holder = self._pool if hasattr(self._pool, _TRANSLATE) else self._allocator
        found: torch.Tensor = getattr(holder, _TRANSLATE)(slots)
        return found.long()

    def _set_window(self, slots: torch.Tensor, windows: torch.Tensor) -> None:
        if hasattr(self._allocator, _SET_WINDOW):
            getattr(self._allocator, _SET_WINDOW)(slots, windows)
        else:
            self._allocator.full_to_swa_index_mapping[slots] = windows
