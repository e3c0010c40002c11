"""Requests of a decode server, whose rows go to storage page by page while they run.

The prompt's rows came from a prefill server, which has stored its whole pages. A request gets a
slot for each token that it computes; whole pages are copied to the host, and from there to storage,
while it runs on. One request ends behind its last copy, one without any, one is given up while a
copy is on its way. Behind every part the owners of all slots are recorded, and how many requests
have given the lock of their prefix back.

Source of the order of calls: sglang 0.5.23 ``disaggregation/decode.py`` and
``managers/scheduler_components/batch_result_processor.py``.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import torch

from traces.schema.life import PoolBalance, StateRecord
from traces.schema.pools import PoolAnswer
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.controller_driver import ControllerDriver
from traces.targets.sglang.pool_answers import told_values
from traces.targets.sglang.row_contents import RowContents
from traces.targets.sglang.server_requests import (
    DecodeBatch,
    PrefillBatch,
    allocate,
    allocate_next,
    commit,
    current_length,
    finish,
    make_request,
    plan_prefill,
)
from traces.targets.sglang.storage.threads import (
    StorageThreads,
    capture_thread_errors,
    storage_paused,
)
from traces.targets.sglang.tree_ledger import CountedPool

STEP = "decode"
_OFFLOAD = "offload_kv_cache"
_KV = "KV"
_TOKEN = 7
# Of a tree, by release: each takes what the request was given when its prefix was locked.
_UNLOCKS = ("unlock", "dec_lock_ref")
_FIRST_TOKENS = {"stored": 1000, "short": 2000, "given_up": 1000}


def is_decode_server(cache: Any) -> bool:  # noqa: ANN401 - any class of the release
    """Return whether what holds the stack copies the rows of running requests."""
    return callable(getattr(cache, _OFFLOAD, None))


class DecodeRequests:
    """Requests at one decode server, all of whose device slots are free."""

    def __init__(
        self,
        stack: AssembledStack,
        *,
        rows: RowContents,
        transfers: ControllerDriver,
        pools: tuple[CountedPool, ...],
    ) -> None:
        self._stack = stack
        self._server: Any = stack.cache
        self._rows = rows
        self._pools = pools
        self._backed_up = dict(transfers.host_slots)
        self._running: dict[str, Any] = {}
        self._copied: dict[str, int] = {}  # tokens of each request that were copied
        self._on_host = 0
        self._unlocked = 0

    def run(self) -> Iterator[StateRecord | PoolAnswer]:
        """Yield the owners of all slots behind every part.

        Raises:
            StageError: a storage thread ends by an exception, or does not come to an end.
        """
        page = self._stack.page_size
        with capture_thread_errors() as errors, storage_paused(), self._counted_unlocks():
            threads = StorageThreads(self._stack.controller, errors)
            # One token is missing for a second page.
            for name, first in _FIRST_TOKENS.items():
                self._admit(name, first=first, length=2 * page - 1)
            # The same tokens in another namespace: its pages must get other keys.
            self._running["given_up"].extra_key = "other"
            yield from self._balance("admitted")
            self._compute("stored", page // 2)
            yield from self._balance("copying")
            self._server.check_offload_progress()
            yield from self._balance("storing")
            threads.settle(STEP)
            self._server.check_offload_progress()
            self._on_host = 0
            yield from self._balance("stored")
            self._compute("given_up", 2)
            self._end("given_up", is_aborted=True)
            yield from self._balance("given_up", is_held=("given_up",))
            self._compute("stored", page // 2 + 1, is_last=True)
            self._end("short")
            yield from self._balance("ending", is_held=("given_up", "stored"))
            self._server.check_offload_progress()
            yield from self._balance("ended")
            threads.settle(STEP)
            self._server.check_offload_progress()
            self._on_host = 0
            yield from self._balance("idle", is_final=True)

    def _counted_unlocks(self) -> ExitStack:
        """Count the locks of prefixes that requests give back, until the result is closed."""
        tree = self._server.tree_cache
        counting = ExitStack()
        name = next((one for one in _UNLOCKS if callable(getattr(tree, one, None))), None)
        if name is not None:
            unlock = getattr(tree, name)

            def count(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
                self._unlocked += [*arguments, *named.values()][0] is not None
                return unlock(*arguments, **named)

            counting.enter_context(patch.object(tree, name, count))
        return counting

    def _admit(self, name: str, *, first: int, length: int) -> None:
        """Give a request slots for its prompt, whose rows have arrived, and its first token."""
        request = make_request(name, list(range(first, first + length)))
        tree = self._server.tree_cache
        request.init_next_round_input(tree)
        if hasattr(tree, "lock"):
            request.lock = tree.lock(request.last_node)
        plan_prefill(request)
        slots = allocate(PrefillBatch(self._stack, request, tree=self._server.tree_cache))
        commit(request)
        self._write(slots, name)
        request.output_ids.append(_TOKEN)
        self._running[name] = request
        self._copied[name] = length // self._stack.page_size * self._stack.page_size

    def _compute(self, name: str, number: int, *, is_last: bool = False) -> None:
        """Have a request compute some tokens; the last one may end it."""
        request = self._running[name]
        for index in range(number):
            batch = DecodeBatch(self._stack, request, tree=self._server.tree_cache)
            slots = allocate_next(batch)
            commit(request)
            self._write(slots, name)
            request.output_ids.append(_TOKEN + index)
            if is_last and index == number - 1:
                self._end(name)
            else:
                self._copy(name)

    def _copy(self, name: str) -> bool:
        """Have the server copy what is a whole page by now; return whether it did."""
        request, page = self._running[name], self._stack.page_size
        is_copied = bool(self._server.offload_kv_cache(request))
        if is_copied:
            new = (_row_num(request) - self._copied[name]) // page * page
            self._copied[name] += new
            self._on_host += new
        return is_copied

    def _end(self, name: str, *, is_aborted: bool = False) -> None:
        """End a request: its slots are given back once its last copy is over."""
        finish(self._running[name], is_aborted=is_aborted)
        if is_aborted or not self._copy(name):
            self._server.finalize_release_on_finish(self._running[name])

    def _write(self, slots: torch.Tensor, author: str) -> None:
        self._rows.write(self._rows.on_host({_KV: slots.long()}), author)

    def _balance(
        self, moment: str, *, is_held: tuple[str, ...] = (), is_final: bool = False
    ) -> Iterator[StateRecord | PoolAnswer]:
        """Yield the owners of all slots; some requests have ended and still hold theirs."""
        yield told_values(
            step=STEP, holder="tree", method=f"unlocked, {moment}", values=[self._unlocked]
        )
        page = self._stack.page_size
        held = 0
        for name, request in self._running.items():
            if not request.finished() or name in is_held:
                held += -(-_row_num(request) // page) * page
        for pool in self._pools:
            is_device = pool.side == "device"
            yield PoolBalance(
                step=STEP,
                moment=moment,
                pool=pool.pool,
                side=pool.side,
                total=pool.total,
                free=int(pool.allocator.available_size()),
                # It has no tree: what it keeps belongs to running requests.
                cached=0,
                held=held if is_device else self._backed_up.get(pool.pool, 0) + self._on_host,
                evictable=None,
                protected=None,
                is_final=is_final,
            )


def _row_num(request: Any) -> int:  # noqa: ANN401 - the release's own class
    """Return how many tokens of a request have rows: its last one has none yet."""
    return current_length(request) - 1
