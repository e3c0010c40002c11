"""Requests of a server at a tree: admitted, cached while they run, finished and aborted.

The release's own requests go through its own functions: the prefix is matched, locked, and the rest
gets slots; the tree takes the rows of a running request over; the end gives back whatever the tree
does not keep. Requests share a prefix, so that rows exist twice. Behind every part the locks of all
nodes are recorded, and the owners of all slots where no request runs.

Source of the order of calls: sglang 0.5.23 ``managers/schedule_policy.py`` (admission),
``managers/schedule_batch.py`` (prefill), ``mem_cache/common.py`` (release).
"""

import inspect
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from traces.schema.life import EvictionCount, StateRecord
from traces.schema.pools import PoolAnswer
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.discovery import PACKAGE
from traces.targets.sglang.pool_answers import told_values
from traces.targets.sglang.signature_caller import accepted_arguments
from traces.targets.sglang.tree_driver import MAMBA, SWA, TokenSequence, TreeDriver
from traces.targets.sglang.tree_ledger import CountedPool, TreeLedger

STEP = "requests"

_SHARED, _ONE, _OTHER = 31, 32, 33
_NEW_TOKENS = 4
_TOKEN = 7
_COMPUTED_NUM = 3
# A request has a state, two that keep what a page boundary needs, and one for the tree.
_STATES = 4
_BATCHES = f"{PACKAGE}.srt.managers.schedule_batch"
_POLICY = f"{PACKAGE}.srt.managers.schedule_policy"
_SAMPLING = f"{PACKAGE}.srt.sampling.sampling_params"
# Later releases have a module for allocation alone.
_COMMON = f"{PACKAGE}.srt.mem_cache.common"
_ALLOCATION = (f"{PACKAGE}.srt.mem_cache.allocation", _COMMON)
_WRITES_BY_KERNEL = "support_triton"


class _Batch:
    """A batch of one request, as far as the release allocates for it.

    Attributes:
        seq_lens: tokens of each request, ``(1,) int64`` where the request table lies.
        seq_lens_cpu: the same on the host.
    """

    hisparse_coordinator = None
    spec_algorithm = None

    def __init__(self, stack: AssembledStack, request: Any, *, tree: Any, length: int) -> None:  # noqa: ANN401
        self.reqs = [request]
        self.tree_cache = tree
        self.req_to_token_pool = stack.req_to_token_pool
        self.token_to_kv_pool_allocator = stack.allocator
        self.device = stack.req_to_token_pool.req_to_token.device
        self.seq_lens_cpu = torch.tensor([length], dtype=torch.int64)
        self.seq_lens = self.seq_lens_cpu.to(self.device)

    def maybe_evict_swa(self) -> None:
        """Evict nothing: no request has tokens outside of its window yet."""

    def is_dllm(self) -> bool:
        """Return whether the model computes blocks of tokens by diffusion, which none does here."""
        return False


class PrefillBatch(_Batch):
    """A request that is prefilled.

    Attributes:
        prefix_lens: tokens of each request that the tree has on the device.
        extend_lens: its other tokens.
        extend_num_tokens: those of all requests.
    """

    def __init__(self, stack: AssembledStack, request: Any, *, tree: Any) -> None:  # noqa: ANN401
        super().__init__(stack, request, tree=tree, length=prompt_length(request))
        known = prefix_length(request)
        self.prefix_lens, self.extend_lens = [known], [prompt_length(request) - known]
        self.extend_num_tokens = prompt_length(request) - known


class DecodeBatch(_Batch):
    """A request that computes its next token.

    Attributes:
        req_pool_indices: its row in the request table, ``(1,) int64`` where that lies.
        req_pool_indices_cpu: the same on the host.
    """

    model_config = SimpleNamespace(is_encoder_decoder=False)

    def __init__(self, stack: AssembledStack, request: Any, *, tree: Any) -> None:  # noqa: ANN401
        super().__init__(stack, request, tree=tree, length=current_length(request) - 1)
        holder = request if hasattr(request, "req_pool_idx") else request.kv
        self.req_pool_indices_cpu = torch.tensor([holder.req_pool_idx], dtype=torch.int64)
        self.req_pool_indices = self.req_pool_indices_cpu.to(self.device)


class TreeRequests:
    """Requests at one tree, all of whose slots are free."""

    def __init__(
        self, stack: AssembledStack, *, driver: TreeDriver, pools: tuple[CountedPool, ...]
    ) -> None:
        self._stack = stack
        self._cache = stack.cache
        self._driver = driver
        self._ledger = TreeLedger(stack, pools=pools, step=STEP)
        self._common = import_module(_COMMON)
        self._running: dict[str, Any] = {}
        self._admitted_num = 0

    def run(self) -> Iterator[StateRecord | PoolAnswer]:
        """Yield the records behind every part; a request that finds no room is not admitted."""
        self._driver.flush()
        with self._windows_apart():
            yield from self._serve()

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
        one = driver.sequence("one", shared=_SHARED, one=_ONE)
        other = driver.sequence("other", shared=_SHARED, other=_OTHER)
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
        driver.evict_device()
        driver.acknowledge()
        yield from self._ledger.read("evicted", is_final=True)

    def _admit(self, name: str, sequence: TokenSequence) -> Iterator[StateRecord]:
        """Match and lock the prefix of a new request, and give it slots for the rest."""
        if not self._has_room(sequence):
            return
        request = make_request(name, sequence.raw_tokens)
        # A later request is more urgent.
        self._admitted_num += 1
        request.priority = self._admitted_num
        request.init_next_round_input(self._cache)
        self._lock(request)
        plan_prefill(request)
        slots = allocate(PrefillBatch(self._stack, request, tree=self._cache))
        commit(request)
        self._write(request, slots, name)
        self._running[name] = request
        yield from self._ledger.read_locks(f"admitted_{name}")

    def _has_room(self, sequence: TokenSequence) -> bool:
        """Return whether a row, slots and states are free for all tokens of a request."""
        page = self._stack.page_size
        states = [
            pool.allocator.available_size()
            for pool in self._ledger.pools
            if pool.component == MAMBA and pool.side == "device"
        ]
        tokens = len(sequence.raw_tokens)
        return (
            tokens <= self._stack.req_to_token_pool.req_to_token.shape[1]
            and self._driver.slots.has_room((tokens // page + 1) * page)
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
    ) -> dict[str, torch.Tensor]:
        """Write the rows of tokens, and the state of their request if it has one.

        Return their slots by domain, on the host.
        """
        where = self._driver.slots_of_tokens(slots)
        if MAMBA in self._driver.domains:
            where[MAMBA] = self._driver.rows.on_host({MAMBA: state_of(request)})[MAMBA]
        self._driver.rows.write(where, author)
        return where

    def _end(self, name: str, *, is_kept: bool) -> Iterator[StateRecord]:
        """Finish a request, or abort it; the tree gets the rows where ``is_kept``."""
        request = self._running.pop(name, None)
        if request is None:
            return
        finish(request, is_aborted=not is_kept)
        given = {"is_insert": is_kept, "checkpoint": is_kept}
        release = self._common.release_kv_cache
        release(request, self._cache, **accepted_arguments(release, given))
        yield from self._ledger.read_locks(f"ended_{name}")


def make_request(name: str, tokens: list[int]) -> Any:  # noqa: ANN401 - the release's own class
    """Return a request of the release for some tokens."""
    kind = import_module(_BATCHES).Req
    sampling = import_module(_SAMPLING).SamplingParams(max_new_tokens=_NEW_TOKENS)
    annotation = str(inspect.signature(kind).parameters["origin_input_ids"].annotation)
    ids = array("q", tokens) if "array" in annotation else list(tokens)
    return kind(name, "", ids, sampling)


def prefix_length(request: Any) -> int:  # noqa: ANN401 - the release's own class
    """Return how many tokens of a request the tree had on the device."""
    indices = getattr(request, "prefix_indices", None)
    return int(request.prefix_len) if indices is None else len(indices)


def prompt_length(request: Any) -> int:  # noqa: ANN401 - the release's own class
    """Return how many tokens the prompt of a request has."""
    return len(request.origin_input_ids)


def current_length(request: Any) -> int:  # noqa: ANN401 - the release's own class
    """Return how many tokens a request has: its prompt's, and those that it has computed."""
    return prompt_length(request) + len(request.output_ids)


def plan_prefill(request: Any) -> None:  # noqa: ANN401 - the release's own class
    """Tell a request which tokens the next pass computes: those behind its prefix."""
    length, known = prompt_length(request), prefix_length(request)
    if hasattr(request, "set_extend_range"):
        request.set_extend_range(known, length)
    elif hasattr(request, "set_extend_input_len"):
        request.set_extend_input_len(length - known)
        if hasattr(request, "fill_len"):
            request.fill_len = length


def finish(request: Any, *, is_aborted: bool) -> None:  # noqa: ANN401 - the release's own class
    """Tell a request that it is over."""
    reasons = import_module(_BATCHES)
    ended = reasons.FINISH_ABORT() if is_aborted else reasons.FINISH_LENGTH(length=0)
    request.finished_reason = ended


def allocate(batch: PrefillBatch) -> torch.Tensor:
    """Give a request a row and slots by the release's own function.

    Return the new slots, ``(extend_num_tokens,) int64`` in device memory.

    Raises:
        AttributeError: the release has no such function.
        RuntimeError: the release's own, where there is no room.
    """
    module = _module_of("alloc_for_extend")
    # A kernel writes the row where it can, from addresses of tensors.
    is_switch = hasattr(module, _WRITES_BY_KERNEL)
    without = patch.object(module, _WRITES_BY_KERNEL, lambda _: False)
    with without if is_switch else nullcontext():
        slots: torch.Tensor = module.alloc_for_extend(batch)[0]
    return slots


def allocate_next(batch: DecodeBatch) -> torch.Tensor:
    """Give a request the slot of its next token, ``(1,) int64`` in device memory.

    For errors see :func:`allocate`.
    """
    slots: torch.Tensor = _module_of("alloc_for_decode").alloc_for_decode(batch, token_per_req=1)
    return slots


def _module_of(function: str) -> Any:  # noqa: ANN401 - a module of the release
    for name in _ALLOCATION:
        try:
            module = import_module(name)
        except ImportError:
            continue
        if hasattr(module, function):
            return module
    raise AttributeError(f"a release without {function}")


def state_of(request: Any) -> torch.Tensor:  # noqa: ANN401 - the release's own class
    """Return the state slot of a request, ``(1,) int64``."""
    holder = request if hasattr(request, "mamba_pool_idx") else request.kv
    state: torch.Tensor = holder.mamba_pool_idx
    return state.reshape(1)


def commit(request: Any) -> None:  # noqa: ANN401 - the release's own class
    """Count the tokens of a request as computed, as a batch does before its forward pass."""
    for holder in (request, getattr(request, "kv", None)):
        for name in ("kv_committed_len", "kv_allocated_len"):
            if hasattr(holder, name):
                setattr(holder, name, current_length(request))
