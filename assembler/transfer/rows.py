"""Row maps: from the slots of a controller to the rows that a transfer moves."""

from dataclasses import dataclass

import torch
from typing_extensions import override

from assembler.errors import TransferError


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMap:
    """A map from slots to rows: this one has one row for each slot.

    All methods but :meth:`check` are tensor arithmetic, asynchronous where the slots live on a
    device.
    """

    @property
    def slots_per_row(self) -> int | None:
        """Slots of a row, where row ``i`` is slot ``i * slots_per_row`` divided by it; else None.

        It is the same for host rows and device rows.
        """
        return 1

    def host_rows(self, slots: torch.Tensor) -> torch.Tensor:
        """Return the rows of a host window; shape ``(row_num,) int64``."""
        return slots

    def device_rows(self, slots: torch.Tensor) -> torch.Tensor:
        """Return the rows of a device window, by default those of the host; shape likewise."""
        return self.host_rows(slots)

    def row_num(self, slot_num: int) -> int:
        """Return the number of rows of that many slots; raise TransferError for a part of a row."""
        return slot_num

    def check(self, slots: torch.Tensor) -> None:
        """Raise TransferError for slots in host memory that are not whole rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRows(RowMap):
    """One row for each page: every ``page_size`` slots must be one aligned page.

    Attributes:
        subject: the pool, for errors.
        page_size: slots in a page.
    """

    subject: str
    page_size: int

    @property
    @override
    def slots_per_row(self) -> int | None:
        return self.page_size

    @override
    def host_rows(self, slots: torch.Tensor) -> torch.Tensor:
        return slots[:: self.page_size] // self.page_size

    @override
    def row_num(self, slot_num: int) -> int:
        if slot_num % self.page_size:
            rule = "transfers must be whole pages"
            expected = f"a multiple of {self.page_size} slots"
            raise TransferError(self.subject, rule, expected=expected, got=slot_num)
        return slot_num // self.page_size

    @override
    def check(self, slots: torch.Tensor) -> None:
        row_num = self.row_num(slots.numel())
        pages = slots.numpy().reshape(row_num, self.page_size)
        if not (pages[:, 0] % self.page_size).any() and (pages[:, 1:] - pages[:, :-1] == 1).all():
            return
        starts = self.host_rows(slots) * self.page_size
        whole = starts.unsqueeze(1) + torch.arange(self.page_size)
        position = int((slots != whole.view(-1)).nonzero()[0])
        raise TransferError(
            self.subject,
            "each page must be transferred whole and in order",
            expected=f"slot {int(whole.view(-1)[position])} at position {position}",
            got=f"slot {int(slots[position])}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRows(RowMap):
    """One row for each head of each slot, for a host buffer that keeps heads apart in a page.

    Host row of slot ``s`` and head ``h``: ``(s // page_size * head_num + h) * page_size
    + s % page_size``. Device row: ``s * head_num + h``.

    Attributes:
        head_num: heads in a slot.
        page_size: slots in a page.
    """

    head_num: int
    page_size: int

    @property
    @override
    def slots_per_row(self) -> int | None:
        return None

    @override
    def host_rows(self, slots: torch.Tensor) -> torch.Tensor:
        first_rows = slots // self.page_size * self.head_num * self.page_size
        first_rows = first_rows + slots % self.page_size
        return (first_rows.unsqueeze(1) + self._heads(slots) * self.page_size).view(-1)

    @override
    def device_rows(self, slots: torch.Tensor) -> torch.Tensor:
        return (slots.unsqueeze(1) * self.head_num + self._heads(slots)).view(-1)

    @override
    def row_num(self, slot_num: int) -> int:
        return slot_num * self.head_num

    def _heads(self, slots: torch.Tensor) -> torch.Tensor:
        # Created beside the slots: a host tensor here would be copied at every call, and wait.
        return torch.arange(self.head_num, device=slots.device)
