"""Requests of a server at a tree: admitted, cached while they run, finished and aborted.

The release's own requests go through its own functions: the prefix is matched, locked, and the rest
gets slots; the tree takes the rows of a running request over; the end gives back whatever the tree
does not keep. Requests share a prefix, so that rows exist twice. Behind every part the locks of all
nodes are recorded, and the owners of all slots where no request runs.

Source of the order of calls: sglang 0.5.23 ``managers/schedule_policy.py`` (admission),
``managers/schedule_batch.py`` (prefill), ``mem_cache/common.py`` (release).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch

from traces.schema.life import EvictionCount, StateRecord
from traces.schema.pools import PoolAnswer
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.discovery import PACKAGE
from traces.targets.sglang.pool_answers import told_values
from traces.targets.sglang.server_requests import (
    DecodeBatch,
    PrefillBatch,
    allocate,
    allocate_next,
    commit,
    evict_windows,
    finish,
    has_state,
    keep_checkpoint,
    make_request,
    plan_prefill,
    prompt_length,
    release_slots,
    state_of,
)
from traces.targets.sglang.switches import noted_switches, switched
from traces.targets.sglang.tree_driver import KV, MAMBA, SWA, TokenSequence, TreeDriver
from traces.targets.sglang.tree_ledger import CountedPool, TreeLedger

STEP = "requests"

_SHARED, _ONE, _OTHER, _SPARE = 31, 32, 33, 34
_TOKEN = 7
_SALT = "salt"
_COMPUTED_NUM = 3
# A request has a state, two that keep what a page boundary needs, and one for the tree.
_STATES = 4
_POLICY = f"{PACKAGE}.srt.managers.schedule_policy"


class TreeRequests:
    """Requests at one tree, all of whose slots are free."""

    def __init__(
        self, stack: AssembledStack, *, driver: TreeDriver, pools: tuple[CountedPool, ...]
    ) -> None:
        self._stack = stack
        self._cache = stack.cache
        self._driver = driver
        self._ledger = TreeLedger(stack, pools=pools, step=STEP)
        self._running: dict[str, Any] = {}
        self._admitted_num = 0

    def run(self) -> Iterator[StateRecord | PoolAnswer]:
        """Yield the records behind every part; a request that finds no room is not admitted."""
        self._driver.flush()
        with self._windows_apart():
            with noted_switches() as switches:
                yield from self._serve()
            for name in sorted(switches):
                with switched(name):
                    yield from self._serve_otherwise(name)

    @contextmanager
    def _windows_apart(self) -> Iterator[None]:
        """Hold a page of windows, if there are any: window slots get other numbers than full ones.

        What takes one for the other would go on as if nothing had happened.
        """
        pools = [one for one in self._ledger.pools if one.component == SWA and one.side == "device"]
        for pool in pools:
            page = pool.allocator.alloc(pool.page(self._stack))
            if page is not None:
                self._ledger.held["device", pool.pool] += len(page)
                yield
                pool.allocator.free(page)
                return
        yield

    def _serve(self) -> Iterator[StateRecord | PoolAnswer]:
        driver = self._driver
        one, other = self._sequences()
        yield from self._admit("first", one)
        yield from self._keep("first")
        yield self._ledger.read_priorities("kept")
        yield from self._compute("first")
        yield from self._admit("second", other)
        yield from self._admit("twin", other)
        for name, number in driver.evict_device().items():
            yield EvictionCount(step=STEP, moment="evicting", name=name, number=number)
        yield from self._ledger.read_locks("evicting")
        yield from self._keep("second")
        yield from self._compute("second")
        yield from self._end("twin", is_kept=True)
        yield from self._end("second", is_kept=True)
        yield from self._end("first", is_kept=False)
        driver.acknowledge()
        yield from self._ledger.read("idle", is_final=True)
        yield from self._admit("again", one)
        yield from self._end("again", is_kept=True)
        driver.acknowledge()
        yield from self._ledger.read("cached", is_final=True)
        yield self._ledger.read_priorities("cached")
        if MAMBA in driver.domains:
            yield from self._match_without_states()
        driver.evict_device()
        driver.acknowledge()
        yield from self._ledger.read("evicted", is_final=True)
        yield from self._salt(one)
        if SWA in driver.domains:
            yield from self._outgrow_window()

    def _sequences(self) -> tuple[TokenSequence, TokenSequence]:
        """Return two prompts that begin with the same tokens."""
        return (
            self._driver.sequence("one", shared=_SHARED, one=_ONE),
            self._driver.sequence("other", shared=_SHARED, other=_OTHER),
        )

    def _match_without_states(self) -> Iterator[StateRecord | PoolAnswer]:
        """Have a request match cached tokens while no state is free: the tree has to evict one.

        Meanwhile another request runs whose prefix are the same tokens.
        """
        driver = self._driver
        yield from self._admit("spare", driver.sequence("spare", spare=_SPARE))
        yield from self._end("spare", is_kept=True)
        # What is backed up is locked until then.
        driver.acknowledge()
        beside = driver.sequence("beside", shared=_SHARED, one=_ONE, other=_OTHER)
        yield from self._admit("beside", beside)
        if "beside" in self._running:
            longer = driver.sequence("longer", shared=_SHARED, one=_ONE, spare=_SPARE)
            request = make_request("stateless", longer.raw_tokens)
            refusal = ""
            with self._all_states_held() as allocator:
                try:
                    request.init_next_round_input(self._cache)
                except AssertionError as error:
                    refusal = str(error)
                yield from self._ledger.read_locks("matching without states")
            if has_state(request):
                allocator.free(state_of(request))
            yield told_values(
                step=STEP, holder="tree", method="match without states", values=[refusal]
            )
        yield from self._end("beside", is_kept=True)
        driver.acknowledge()
        yield from self._ledger.read("matched without states", is_final=True)

    @contextmanager
    def _all_states_held(self) -> Iterator[Any]:
        """Hold every state of the device that is free; yield their allocator."""
        (allocator,) = (
            pool.allocator
            for pool in self._ledger.pools
            if pool.component == MAMBA and pool.side == "device"
        )
        held = allocator.alloc(int(allocator.available_size()))
        try:
            yield allocator
        finally:
            if held is not None:
                allocator.free(held)

    def _salt(self, sequence: TokenSequence) -> Iterator[StateRecord | PoolAnswer]:
        """Have a request keep tokens under a salt, and another one ask for them without it."""
        driver = self._driver
        yield from self._admit("salted", sequence, salt=_SALT)
        yield from self._keep("salted")
        yield from self._admit("unsalted", sequence)
        yield from self._end("unsalted", is_kept=True)
        yield from self._end("salted", is_kept=True)
        driver.acknowledge()
        yield from self._ledger.read("salted", is_final=True)
        driver.evict_device()
        driver.acknowledge()
        yield from self._ledger.read("salted evicted", is_final=True)

    def _serve_otherwise(self, switch: str) -> Iterator[StateRecord | PoolAnswer]:
        """Serve two requests that share a prefix while a switch has its other value."""
        driver = self._driver
        one, other = self._sequences()
        first, second = f"{switch} first", f"{switch} second"
        yield from self._admit(first, one)
        yield from self._keep(first)
        yield from self._compute(first)
        yield from self._admit(second, other)
        yield from self._keep(second)
        yield from self._end(first, is_kept=True)
        yield from self._end(second, is_kept=False)
        driver.acknowledge()
        yield from self._ledger.read(switch, is_final=True)
        driver.evict_device()
        driver.acknowledge()
        yield from self._ledger.read(f"{switch} evicted", is_final=True)

    def _outgrow_window(self) -> Iterator[StateRecord | PoolAnswer]:
        """Have a request give up the windows of its first tokens, and another one match them."""
        driver = self._driver
        long = driver.sequence("long", shared=_SHARED, one=_ONE, other=_OTHER)
        if not self._has_room(long):
            long = driver.sequence("long", shared=_SHARED, one=_ONE)
        yield from self._admit("long", long)
        request = self._running.get("long")
        if request is None:
            return
        request.output_ids.append(_TOKEN)
        batch = DecodeBatch(self._stack, request, tree=self._cache)
        evict_windows(batch, request)
        row = self._stack.req_to_token_pool.req_to_token[int(batch.req_pool_indices_cpu)]
        slots = driver.rows.on_host({KV: row[: len(long.tokens)].long()})[KV]
        windows = driver.slots_of_tokens(slots)[SWA].tolist()
        yield told_values(step=STEP, holder="windows", method="behind long", values=windows)
        yield from self._end("long", is_kept=True)
        driver.acknowledge()
        yield from self._ledger.read("outgrown", is_final=True)
        yield from self._admit("long again", long)
        yield from self._end("long again", is_kept=True)
        driver.acknowledge()
        yield from self._ledger.read("outgrown again", is_final=True)
        driver.evict_device()
        driver.acknowledge()
        yield from self._ledger.read("outgrown evicted", is_final=True)

    def _admit(
        self, name: str, sequence: TokenSequence, *, salt: str | None = None
    ) -> Iterator[StateRecord]:
        """Match and lock the prefix of a new request, and give it slots for the rest."""
        if not self._has_room(sequence):
            return
        request = make_request(name, sequence.raw_tokens)
        # A later request is more urgent.
        self._admitted_num += 1
        request.priority = self._admitted_num
        request.cache_salt = salt
        request.init_next_round_input(self._cache)
        self._lock(request)
        plan_prefill(request)
        slots = allocate(PrefillBatch(self._stack, request, tree=self._cache))
        commit(request)
        self._write(request, slots, name, kept=self._kept_state(request))
        self._running[name] = request
        yield from self._ledger.read_locks(f"admitted_{name}")

    def _has_room(self, sequence: TokenSequence) -> bool:
        """Return whether a row, slots and states are free for what the tree lacks of a sequence."""
        page = self._stack.page_size
        states = [
            pool.allocator.available_size()
            for pool in self._ledger.pools
            if pool.component == MAMBA and pool.side == "device"
        ]
        tokens = len(sequence.raw_tokens)
        tree = self._driver.tree
        match = tree.match(tree.key(sequence.raw_tokens, sequence.namespace), None)
        new = tokens - len(tree.device_slots(match))
        return (
            tokens <= self._stack.req_to_token_pool.req_to_token.shape[1]
            and self._driver.slots.has_room((new // page + 1) * page)
            and all(free >= _STATES for free in states)
        )

    def _lock(self, request: Any) -> None:  # noqa: ANN401 - the release's own class
        adder: Any = getattr(import_module(_POLICY), "PrefillAdder", None)
        lock = getattr(adder, "_req_inc_lock_ref", None)
        if lock is None:
            request.lock = self._cache.lock(request.last_node)
            return
        surroundings = SimpleNamespace(
            tree_cache=self._cache, is_hybrid_swa=SWA in self._driver.domains
        )
        lock(surroundings, request)

    def _keep(self, name: str) -> Iterator[StateRecord]:
        """Have the tree take the rows of a running request over."""
        request = self._running.get(name)
        if request is None:
            return
        if hasattr(self._cache, "checkpoint"):
            self._cache.checkpoint(request, up_to=prompt_length(request))
        else:
            self._cache.cache_unfinished_req(request)
        yield from self._ledger.read_locks(f"kept_{name}")

    def _compute(self, name: str) -> Iterator[PoolAnswer]:
        """Have a running request compute its first tokens, which begin a page, if there is room.

        Yields the slots of their windows: nothing else tells which ones belong to which tokens.
        """
        request = self._running.get(name)
        if request is None:
            return
        row = self._stack.req_to_token_pool.req_to_token.shape[1]
        has_row = prompt_length(request) + _COMPUTED_NUM <= row
        if not (has_row and self._driver.slots.has_room(self._stack.page_size)):
            return
        windows: list[int] = []
        request.output_ids.append(_TOKEN)
        for number in range(1, _COMPUTED_NUM):
            slots = allocate_next(DecodeBatch(self._stack, request, tree=self._cache))
            commit(request)
            where = self._write(request, slots, f"{name} {number}")
            windows += where[SWA].tolist() if SWA in where else []
            request.output_ids.append(_TOKEN + number)
        yield told_values(step=STEP, holder="windows", method=f"of {name}", values=windows)

    def _write(
        self,
        request: Any,  # noqa: ANN401 - the release's own class
        slots: torch.Tensor,
        author: str,
        *,
        kept: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Write the rows of tokens, the state of their request if it has one, and one that it kept.

        Return their slots by domain, on the host.
        """
        where = self._driver.slots_of_tokens(slots)
        if MAMBA in self._driver.domains:
            states = [state_of(request), *([] if kept is None else [kept])]
            where[MAMBA] = self._driver.rows.on_host({MAMBA: torch.cat(states)})[MAMBA]
        self._driver.rows.write(where, author)
        return where

    def _kept_state(self, request: Any) -> torch.Tensor | None:  # noqa: ANN401
        """Have a request keep the state behind the last whole page of its prompt; return its slot.

        None without states, and where the request has no slot for a second one.
        """
        if MAMBA not in self._driver.domains:
            return None
        table, page = self._stack.req_to_token_pool, self._stack.page_size
        return keep_checkpoint(request, table=table, page_size=page)

    def _end(self, name: str, *, is_kept: bool) -> Iterator[StateRecord]:
        """Finish a request, or abort it; the tree gets the rows where ``is_kept``."""
        request = self._running.pop(name, None)
        if request is None:
            return
        finish(request, is_aborted=not is_kept)
        release_slots(request, self._cache, is_kept=is_kept)
        yield from self._ledger.read_locks(f"ended_{name}")
