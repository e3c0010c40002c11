"""Host slots of nodes, and those into which pages of storage are fetched."""

from dataclasses import dataclass
from typing import Any

import torch

from traces.targets.sglang.assembly import AssembledStack, entries_of
from traces.targets.sglang.errors import StageError

_ANCHOR = "KV"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPages:
    """Host slots of a node."""

    host: torch.Tensor  # host slots of the anchor
    # Host slots of the sidecars with slots of their own, by pool name.
    extra: dict[str, torch.Tensor]


class HostTargets:
    """Host slots for prefetches: those of one number of tokens get the same slots.

    They are taken once, so that what a release itself takes and frees stands out.
    """

    def __init__(self, stack: AssembledStack) -> None:
        self._group = stack.group
        self._page = stack.page_size
        self._pools = {name: entry.host_pool for name, entry in entries_of(stack.group).items()}
        self._sources = dict(stack.sidecars)
        self._taken: dict[int, HostPages] = {}

    def cleared(self, pages: HostPages, *, known: int) -> HostPages:
        """Return host slots for what lies behind ``known`` tokens; their pages are zero.

        Raises:
            StageError: the host has no room.
        """
        need = len(pages.host) - known
        if need not in self._taken:
            extra = {
                name: _take_slots(self._pools[name], len(own)) for name, own in pages.extra.items()
            }
            self._taken[need] = HostPages(host=_take_slots(self._group, need), extra=extra)
        target = self._taken[need]
        for name, pool in (self._pools or {_ANCHOR: self._group}).items():
            if name in target.extra:
                width = getattr(pool, "page_size", 1) or 1
                _clear_pages(pool, target.extra[name][::width])
            elif self._sources.get(name, _ANCHOR) == _ANCHOR:
                _clear_pages(pool, target.host[:: self._page])
        return target

    def free(self) -> None:
        """Free every slot."""
        for target in self._taken.values():
            self._group.free(target.host)
            for name, own in target.extra.items():
                self._pools[name].free(own)
        self._taken.clear()


def _clear_pages(pool: Any, first_slots: torch.Tensor) -> None:  # noqa: ANN401
    """Clear the pages that begin at slots; a logical pool has none."""
    if getattr(pool, "kv_buffer", pool) is None:
        return
    for slot in first_slots.tolist():
        empty = pool.get_dummy_flat_data_page()
        if empty is not None:
            pool.set_from_flat_data_page(slot, empty.zero_())


def _take_slots(pool: Any, need: int) -> torch.Tensor:  # noqa: ANN401 - any class of host pools
    slots = pool.alloc(need)
    if slots is None:
        raise StageError(f"storage: a roomy host must take a node; expected {need} slots, got none")
    found: torch.Tensor = slots
    return found
