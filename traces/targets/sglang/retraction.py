"""Retraction of a request: its rows go to the host without the tree, and come back to other slots.

A server that runs out of device slots retracts a running request. Where the release keeps its rows
on the host meanwhile, they are written, read back into other slots and compared; another request is
given up while its rows are on the host.
"""

from collections.abc import Iterator
from typing import Any

import torch

from traces.schema.life import StateRecord
from traces.schema.model import RoundTrip
from traces.targets.common.content import row_bytes
from traces.targets.common.round_trip import RoundTripComparison
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.tree_client import TreeRequest
from traces.targets.sglang.tree_driver import MAMBA, SWA, TreeDriver
from traces.targets.sglang.tree_ledger import TreeLedger

_CALLS = ("backup_kv_cache", "restore_kv_cache", "discard_kv_cache_backup")
_AUTHOR = "retracted"
_ROW = 1


class Retraction:
    """Retracts requests of one stack, all of whose slots are free."""

    def __init__(self, stack: AssembledStack, *, driver: TreeDriver, ledger: TreeLedger) -> None:
        self._cache = stack.cache
        self._page = stack.page_size
        self._window = stack.window
        self._table: Any = getattr(stack.req_to_token_pool, "req_to_token", None)
        self._driver = driver
        self._rows = driver.rows
        self._ledger = ledger

    def run(self, step: str) -> Iterator[StateRecord | RoundTrip]:
        """Yield the owners of slots behind every part, and the comparison of the rows."""
        can_retract = all(callable(getattr(self._cache, name, None)) for name in _CALLS)
        has_room = self._table is not None and self._table.shape[1] >= self._driver.part
        if not can_retract or not has_room or MAMBA in self._driver.domains:
            return
        self._driver.flush()
        request, taken = self._running()
        backup = self._cache.backup_kv_cache(request)
        self._return(taken)
        self._driver.overwrite_free(f"not {_AUTHOR}")
        # Other slots than before: the first page is taken.
        held = self._driver.take(self._page)
        others = self._driver.take(len(taken))
        self._hand_out(others)
        self._cache.restore_kv_cache(request, backup)
        self._driver.acknowledge()
        yield from self._compared(step, taken, others[: request.seqlen - 1])
        self._return(held, others)
        yield from self._ledger.read("restored", is_final=True)
        request, taken = self._running()
        self._cache.discard_kv_cache_backup(self._cache.backup_kv_cache(request))
        self._return(taken)
        yield from self._ledger.read("given up", is_final=True)

    def _running(self) -> tuple[TreeRequest, torch.Tensor]:
        """Return a request whose last page is not full, and its slots, whose rows are written."""
        part, columns = self._driver.part, self._table.shape[1]
        taken = self._driver.take(min(2, columns // part) * part)
        self._hand_out(taken)
        self._rows.write(self._driver.slots_of_tokens(taken), _AUTHOR)
        self._driver.acknowledge()
        request = TreeRequest(_AUTHOR)
        request.req_pool_idx = _ROW
        # Rows are computed for all tokens but the last one.
        request.seqlen = len(taken) - self._page // 2 + 1
        return request, taken

    def _hand_out(self, slots: torch.Tensor) -> None:
        self._table[_ROW, : len(slots)] = slots.to(self._table.dtype)

    def _return(self, *taken: torch.Tensor) -> None:
        for slots in taken:
            self._driver.slots.return_slots(slots)

    def _compared(
        self, step: str, taken: torch.Tensor, others: torch.Tensor
    ) -> Iterator[RoundTrip]:
        """Compare the rows of a request with those that were written; of windows the last ones."""
        where = self._driver.slots_of_tokens(others)
        for plane in self._rows.planes:
            own = where[plane.domain.name]
            if plane.domain.name == SWA:
                first = max(0, len(own) - self._window) // self._page * self._page
            else:
                first = 0
            comparison = RoundTripComparison()
            for buffer in plane.layers:
                now, rows = row_bytes(buffer.tensor), buffer.rows_of(own[first:])
                tokens = torch.arange(len(taken))
                written = self._rows.content(plane, buffer, tokens, _AUTHOR)
                wanted = written[first // buffer.slots_per_row :][: len(rows)]
                comparison.compare_rows(buffer, rows, served=now[rows], written=wanted)
            yield comparison.record(step=step, pool=plane.pool, plane=plane.plane)
