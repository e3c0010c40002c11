"""Copies of pools whose slot numbers are translated before a row is addressed.

A pool that shares its memory with others hands out numbers that stand for places, and gives those
who copy rows a function from one to the other. Pools of a stack have an attribute for such a
function; here it mirrors the pages of a pool. A copy that leaves the function out, or asks it
twice, moves the rows of other slots, which shows in the slots of its transfers.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch

from traces.targets.sglang.assembly import AssembledStack, entries_of
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.scenarios import GROUPS
from traces.targets.sglang.script_device import ScriptDevice

STEP = "translated"
_FUNCTION_OF_SLOTS = "Callable[[torch.Tensor], torch.Tensor]"

Translation = Callable[[torch.Tensor], torch.Tensor]


def translation_attributes(pool: object) -> Iterator[str]:
    """Yield the attributes of a pool that may be a function from slots to slots, and are None."""
    for cls in type(pool).__mro__:
        for name, annotation in inspect.get_annotations(cls).items():
            text = str(annotation).replace("typing.", "")
            if _FUNCTION_OF_SLOTS in text and getattr(pool, name, cls) is None:
                yield name


def translated_pools(stack: AssembledStack) -> dict[str, Any]:
    """Return the device pools of a stack whose slots may be translated, by name."""
    entries = entries_of(stack.group)
    return {
        name: entry.device_pool
        for name, entry in entries.items()
        if any(translation_attributes(entry.device_pool))
    }


def mirrored(page_size: int, page_num: int) -> Translation:
    """Return the function that swaps the first page with the last one, and so on."""

    def translate(slots: torch.Tensor) -> torch.Tensor:
        pages = page_num - 1 - torch.div(slots, page_size, rounding_mode="floor")
        return pages * page_size + slots % page_size

    return translate


class TranslatedCopies:
    """Backs a node of one stack up and loads it, while the slots of its pools are translated."""

    def __init__(
        self, stack: AssembledStack, *, device: ScriptDevice, transfers: ControllerDriver
    ) -> None:
        self._stack = stack
        self._device = device
        self._transfers = transfers

    def _translation(self, name: str, pool: Any) -> Translation:  # noqa: ANN401 - of a release
        """Return the function for a pool: mirrored are the slots that its rows have, of one rank.

        A pool with a row for several slots has a smaller size, and is asked for slots.
        """
        domain = self._transfers.domain_of(name)
        assert domain is not None, "an entry's slots are its own or another pool's"
        ranks = GROUPS[self._stack.scenario.groups].dcp_size
        # A page of the cache is a page of every rank then.
        parts = ranks if int(pool.size) * ranks == domain.slot_num else 1
        page = domain.page_size // parts
        # The first page is nobody's.
        return mirrored(page, domain.slot_num // parts // page + 1)

    def run(self) -> None:
        """Copy a node to the host and back; other slots are taken meanwhile."""
        with ExitStack() as replaced:
            for pool_name, pool in translated_pools(self._stack).items():
                translate = self._translation(pool_name, pool)
                for name in translation_attributes(pool):
                    replaced.enter_context(patch.object(pool, name, translate))
            slots = self._transfers.take(pages=1)
            host, own = self._transfers.write(slots)
            self._transfers.finish_writing()
            self._device.synchronize()
            loaded = self._transfers.load(host, own)
            self._transfers.start_loading()
            self._transfers.finish_loading()
            self._device.synchronize()
            for taken in (slots, loaded):
                self._transfers.return_slots(taken)
