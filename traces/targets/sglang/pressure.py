"""Full sidecars: what a controller does when a pool with slots of its own has none left.

It asks the callback of the pool's entry to evict, and tries again. Where no tree stands behind the
callbacks, the scenario evicts what it holds itself.
"""

from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.tree_ledger import CountedPool
from traces.targets.sglang.tree_nodes import FULL

_AUTHOR = "pressure"


class PressureScript:
    """Backs a node up and loads it while every sidecar of the other side is full."""

    def __init__(
        self,
        stack: AssembledStack,
        *,
        pools: tuple[CountedPool, ...],
        rows: RowContents,
        transfers: ControllerDriver,
    ) -> None:
        self._stack = stack
        self._sidecars = [pool for pool in pools if pool.component != FULL]
        self._rows = rows
        self._transfers = transfers

    def run(self) -> None:
        """Run the script; do nothing where no sidecar has slots of its own.

        Raises:
            StageError: the controller made no room.
        """
        if not self._sidecars:
            return
        slots = self._transfers.take(pages=1)
        self._rows.write(self._rows.on_host(slots), _AUTHOR)
        self._fill("host")
        host, own = self._transfers.write(slots)
        self._transfers.finish_writing()
        self._evict()
        self._transfers.return_slots(slots)
        self._fill("device")
        loaded = self._transfers.load(host, own)
        self._transfers.start_loading()
        self._transfers.finish_loading()
        self._evict()
        self._transfers.return_slots(loaded)

    def _fill(self, side: str) -> None:
        """Take every slot of the sidecars of one side; an eviction gives them back."""
        for pool in self._sidecars:
            page = pool.page(self._stack)
            free = int(pool.allocator.available_size()) // page * page
            if pool.side == side and free:
                self._stack.evictions.held.append((pool.allocator, pool.allocator.alloc(free)))

    def _evict(self) -> None:
        """Give back what no eviction asked for."""
        self._stack.evictions.evict()
