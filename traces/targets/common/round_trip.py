"""Comparison of device rows after a load: every row that was written, and nothing else changed."""

import torch

from traces.schema.model import RoundTrip
from traces.schema.slot_ranges import sorted_slot_ranges
from traces.targets.common.content import RowBuffer, row_bytes, slots_of_rows


class RoundTripComparison:
    """Slots of one plane or pool whose rows are not what they must be.

    Bytes are ``(rows, bytes of a row) uint8`` tensors on the host; row numbers are int64.
    """

    def __init__(self) -> None:
        self._wrong: set[int] = set()
        self._foreign: set[int] = set()

    def compare_rows(
        self, buffer: RowBuffer, rows: torch.Tensor, *, served: torch.Tensor, written: torch.Tensor
    ) -> None:
        """Compare the bytes ``served`` for some rows with what was ``written`` to them."""
        bad = rows[(served != written).any(dim=1)]
        self._wrong.update(slots_of_rows(buffer, bad).tolist())

    def compare_rest(
        self, buffer: RowBuffer, before: torch.Tensor, *, loaded: list[torch.Tensor]
    ) -> None:
        """Compare every row that was not ``loaded`` with its bytes ``before`` the load.

        The device is idle; ``loaded`` holds numbers, or a mask, of rows that may have changed.
        """
        is_changed = (row_bytes(buffer.tensor) != before).any(dim=1)
        for rows in loaded:
            is_changed[rows] = False
        changed = is_changed.nonzero().flatten()
        self._foreign.update(slots_of_rows(buffer, changed).tolist())

    def record(self, *, step: str, pool: str, plane: str) -> RoundTrip:
        """Return the record of the comparison for a trace; ``plane`` is empty for all planes."""
        return RoundTrip(
            step=step,
            pool=pool,
            plane=plane,
            equal=not self._wrong,
            wrong_slots=sorted_slot_ranges(self._wrong),
            foreign_slots=sorted_slot_ranges(self._foreign),
        )
