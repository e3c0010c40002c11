"""Census of the slots of every pool: each is handed out once, and stays what it was handed out as.

Where the tensor that a caller got, or gave back in a group, is memory of the pool's own list of
free slots, slots are lost or handed out twice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from traces.schema.life import PoolBalance
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.token_slots import TokenSlots
from traces.targets.sglang.tree_ledger import CountedPool

STEP = "census"
_WINDOWS = "windows of KV"
_GROUP = ("free_group_begin", "free_group_end")


class SlotCensus:
    """Takes, frees and counts the slots of every pool of one stack."""

    def __init__(
        self, stack: AssembledStack, *, pools: tuple[CountedPool, ...], device: ScriptDevice
    ) -> None:
        self._stack = stack
        self._pools = pools
        self._device = device

    def run(self) -> Iterator[PoolBalance]:
        """Yield one balance for each pool: its free slots are those that it really hands out."""
        for pool in self._pools:
            free = int(pool.allocator.available_size())
            with self._device.pause_interception():
                handed_out = self._hand_out(pool)
            yield PoolBalance(
                step=STEP,
                moment="handed_out",
                pool=pool.pool,
                side=pool.side,
                total=free,
                free=len(handed_out.unique()),
                cached=0,
                held=0,
                evictable=None,
                protected=None,
                is_final=True,
            )
        yield from self._left_windows()

    def _left_windows(self) -> Iterator[PoolBalance]:
        """Yield how many slots lead to no window once they are free; the next owner has none."""
        slots = TokenSlots(self._stack)
        if not slots.has_windows:
            return
        page = self._stack.page_size
        for is_grouped in (False, True):
            with self._device.pause_interception():
                taken = slots.take(slots.room() // page * page)
                assert taken is not None, "as many as there are room for"
                with _grouped(self._stack.allocator if is_grouped else None):
                    slots.return_slots(taken)
                without = int((slots.windows(taken) <= 0).sum())
            yield PoolBalance(
                step=STEP,
                moment="freed together" if is_grouped else "freed",
                pool=_WINDOWS,
                side="device",
                total=len(taken),
                free=without,
                cached=0,
                held=0,
                evictable=None,
                protected=None,
                is_final=True,
            )

    def _hand_out(self, pool: CountedPool) -> torch.Tensor:
        """Take all slots, with frees in between, and give them back; return what was handed out."""
        allocator = pool.allocator
        page = pool.page(self._stack)
        pages = int(allocator.available_size()) // page
        kept = [allocator.alloc(page) for _ in range(min(2, pages - 1))]
        for is_grouped in (False, True) if kept else ():
            freed = allocator.alloc(page)
            with _grouped(allocator if is_grouped else None) as is_deferred:
                allocator.free(freed)
                if is_deferred:
                    # The caller's tensor is its own again: requests reuse theirs.
                    freed.copy_(kept[0])
        rest = int(allocator.available_size()) // page * page
        if rest:
            kept.append(allocator.alloc(rest))
        handed_out = torch.cat([torch.zeros(0, dtype=torch.int64), *kept])
        for slots in kept:
            allocator.free(slots)
        return handed_out


@contextmanager
def _grouped(allocator: Any) -> Iterator[bool]:  # noqa: ANN401 - an allocator of the release, or None
    """Free the slots of the block together at its end; yield whether the allocator can do that."""
    begin, end = (getattr(allocator, name, None) for name in _GROUP)
    if begin is None or end is None:
        yield False
        return
    begin()
    yield True
    end()
