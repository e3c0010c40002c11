"""Slots of every domain that the script takes for itself, as requests have them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.errors import StageError
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.token_slots import TokenSlots

_KV, _SWA = "KV", "SWA"
# Index keys have a row for each page, and are copied in chunks of pages: two make two chunks.
_PAGES_THAT_ARE_ROWS = 2


class OwnSlots:
    """Takes two sets of slots of every domain of one stack, all of whose slots are free.

    A set has one page, or a state; two pages where one is a row, if there is room for them.
    """

    def __init__(
        self, stack: AssembledStack, *, rows: RowContents, transfers: ControllerDriver
    ) -> None:
        self._tokens = TokenSlots(stack)
        self._page_size = stack.page_size
        self._rows = rows
        self._transfers = transfers
        self._domains = {plane.domain.name for plane in rows.planes}
        pages_are_rows = any(
            plane.layers[0].slots_per_row == stack.page_size > 1 for plane in rows.planes
        )
        self._pages_max = _PAGES_THAT_ARE_ROWS if pages_are_rows else 1

    @contextmanager
    def taken(self) -> Iterator[Mapping[str, tuple[torch.Tensor, torch.Tensor]]]:
        """Yield both sets of each domain by its name, on the host; free them in the end.

        Raises:
            StageError: there is no room.
        """
        both = 2 * self._pages_max * self._page_size
        pages = self._pages_max if self._tokens.has_room(both) else 1
        first, second = self._take(pages), self._take(pages)
        own = [self._rows.on_host(slots) for slots in (first, second)]
        yield {name: (own[0][name], own[1][name]) for name in own[0]}
        for slots in (first, second):
            self._tokens.return_slots(slots.pop(_KV))
            slots.pop(_SWA, None)
            self._transfers.return_slots(slots)

    def _take(self, pages: int) -> dict[str, torch.Tensor]:
        slots = self._tokens.take(pages * self._page_size)
        if slots is None:
            raise StageError("KV: an empty device must have slots; expected a page, got none")
        taken = {_KV: slots}
        if _SWA in self._domains:
            taken[_SWA] = self._tokens.windows(slots)
        others = sorted(self._domains - {_KV, _SWA})
        return taken | {name: self._transfers.take_one(name) for name in others}
