"""The list of free pages of a device allocator or a host pool."""

import threading

import torch

from assembler.errors import PoolError


class FreePageList:
    """A first-in-first-out list of free pages that refuses pages it did not hand out.

    The list is kept in host memory, also for device slots: taking never waits for a device. All
    methods may be called from any thread. ``subject`` is the allocator or pool, for errors.
    """

    def __init__(self, *, subject: str, first_page: int, page_num: int, page_size: int) -> None:
        self.subject = subject
        self.page_size = page_size
        self._first_page = first_page
        self._end_page = first_page + page_num
        self._lock = threading.RLock()
        self.clear()

    def clear(self) -> None:
        """Make every page free, in ascending order."""
        with self._lock:
            self._free_pages = torch.arange(self._first_page, self._end_page)
            self._taken = torch.zeros(self._end_page, dtype=torch.bool)

    def available(self) -> int:
        """Return the number of free slots."""
        return self._free_pages.numel() * self.page_size

    def take(self, slot_num: int) -> torch.Tensor | None:
        """Return slots of the pages that have been free longest, or None when there are too few.

        Shape: ``(slot_num,) int64`` in host memory, whole pages in ascending order each.

        Raises:
            PoolError: ``slot_num`` is negative or not whole pages.
        """
        if slot_num < 0 or slot_num % self.page_size:
            raise self._error("slots must be whole pages", f"{self.page_size} * n", slot_num)
        with self._lock:
            page_num = slot_num // self.page_size
            if page_num > self._free_pages.numel():
                return None
            pages, self._free_pages = self._free_pages[:page_num], self._free_pages[page_num:]
            self._taken[pages] = True
        # The sum is a tensor of its own: `pages` is a view of the list, so a caller that
        # writes into its slots must not reach it.
        offsets = torch.arange(self.page_size)
        return (pages.unsqueeze(1) * self.page_size + offsets).view(-1)

    def give_back(self, slots: torch.Tensor) -> int:
        """Put pages at the end of the free list, in the order of their first slots.

        Returns the number of slots. ``slots`` is ``(slot_num,) int64`` in host memory: whole pages,
        otherwise in any order.

        Raises:
            PoolError: a slot that was never handed out, is free already or given twice; a part of a
                page. Nothing is freed then.
        """
        with self._lock:
            self._check_owned(slots)
            pages = slots[slots % self.page_size == 0] // self.page_size
            self._taken[pages] = False
            # A new tensor: slices that `take` handed on keep the old storage.
            self._free_pages = torch.cat([self._free_pages, pages])
        return slots.numel()

    def _check_owned(self, slots: torch.Tensor) -> None:
        first_slot, end_slot = self._first_page * self.page_size, self._end_page * self.page_size
        foreign = slots[(slots < first_slot) | (slots >= end_slot)]
        if foreign.numel():
            owned = f"{first_slot} to {end_slot - 1}"
            raise self._error("slot must be the pool's own", owned, int(foreign[0]))
        pages = slots // self.page_size
        free = slots[~self._taken[pages]]
        if free.numel():
            raise self._error("slot must be in use to be freed", "in use", f"{int(free[0])} free")
        distinct, times = slots.unique(return_counts=True)
        repeated = distinct[times > 1]
        if repeated.numel():
            raise self._error("slot must be freed once", "once", f"{int(repeated[0])} repeated")
        touched, slots_of_page = (distinct // self.page_size).unique(return_counts=True)
        partial = touched[slots_of_page != self.page_size]
        if partial.numel():
            whole = f"all {self.page_size} slots"
            raise self._error("page must be freed whole", whole, f"part of page {int(partial[0])}")

    def _error(self, rule: str, expected: object, got: object) -> PoolError:
        return PoolError(self.subject, rule, expected=expected, got=got)
