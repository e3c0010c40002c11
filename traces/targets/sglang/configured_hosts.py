"""Host pools that run full, are freed in another order, and run full again.

Pools that share an arena have room that no single place has then: they move what they hold.
"""

from typing import Any

import torch

from traces.targets.sglang.assembly import entries_of
from traces.targets.sglang.errors import StageError


class FullHosts:
    """Takes the slots of all host pools of one stack that somebody else uses, too."""

    def __init__(self, group: Any) -> None:  # noqa: ANN401 - host pools of the release
        self._pools: dict[str, Any] = {
            name: entry.host_pool
            for name, entry in entries_of(group).items()
            if hasattr(entry.host_pool, "available_size")
        }
        # In the order in which they were taken.
        self._taken: dict[str, list[torch.Tensor]] = {name: [] for name in self._pools}

    def free(self) -> dict[str, int]:
        """Return how many slots every pool has free, by its name."""
        return {name: int(pool.available_size()) for name, pool in self._pools.items()}

    def take_pages(self) -> None:
        """Take one page of every pool, so that others get slots behind it."""
        for name in self._pools:
            self._take(name, pages=1)

    def run_full(self) -> None:
        """Take all slots in pieces, free every other piece, and take all again at once.

        Raises:
            StageError: a pool hands out nothing where it has room.
        """
        while sum(self._take(name, pages=-(-self._pages(name) // 2)) for name in self._pools):
            pass
        for name, pool in self._pools.items():
            pieces = self._taken[name]
            for piece in pieces[::2]:
                pool.free(piece)
            self._taken[name] = pieces[1::2]
        for name in self._pools:
            self._take(name, pages=self._pages(name))

    def return_slots(self) -> None:
        """Free all slots that were taken."""
        for name, pieces in self._taken.items():
            if pieces:
                self._pools[name].free(torch.cat(pieces))
            self._taken[name] = []

    def _pages(self, name: str) -> int:
        """Return how many pages a pool has free."""
        return int(self._pools[name].available_size()) // self._page(name)

    def _page(self, name: str) -> int:
        return int(getattr(self._pools[name], "page_size", 1))

    def _take(self, name: str, *, pages: int) -> bool:
        if pages:
            self._taken[name].append(given(name, self._pools[name].alloc(pages * self._page(name))))
        return bool(pages)


def given(pool: str, slots: torch.Tensor | None) -> torch.Tensor:
    """Return slots that a pool handed out.

    Raises:
        StageError: it had none.
    """
    if slots is None:
        raise StageError(f"{pool}: a pool with room must hand out slots; expected some, got none")
    return slots
