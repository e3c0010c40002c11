"""Requests and batches of a release, made and moved on by its own functions."""

import inspect
from array import array
from contextlib import nullcontext
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.discovery import PACKAGE
from traces.targets.sglang.signature_caller import accepted_arguments

_NEW_TOKENS = 4
_BATCHES = f"{PACKAGE}.srt.managers.schedule_batch"
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

    hisparse_coordinator: Any = None
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
        self.req_pool_indices_cpu = torch.tensor([row_of(request)], dtype=torch.int64)
        self.req_pool_indices = self.req_pool_indices_cpu.to(self.device)


def make_request(name: str, tokens: list[int]) -> Any:  # noqa: ANN401 - the release's own class
    """Return a request of the release for some tokens."""
    kind = import_module(_BATCHES).Req
    sampling = import_module(_SAMPLING).SamplingParams(max_new_tokens=_NEW_TOKENS)
    annotation = str(inspect.signature(kind).parameters["origin_input_ids"].annotation)
    ids = array("q", tokens) if "array" in annotation else list(tokens)
    return kind(name, "", ids, sampling)


def row_of(request: Any) -> int:  # noqa: ANN401 - the release's own class
    """Return the row of a request in the request table."""
    holder = request if hasattr(request, "req_pool_idx") else request.kv
    return int(holder.req_pool_idx)


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
    elif hasattr(request, "extend_end"):
        request.extend_end = length


def finish(request: Any, *, is_aborted: bool) -> None:  # noqa: ANN401 - the release's own class
    """Tell a request that it is over."""
    reasons = import_module(_BATCHES)
    ended = reasons.FINISH_ABORT() if is_aborted else reasons.FINISH_LENGTH(length=0)
    request.finished_reason = ended


def release_slots(request: Any, tree: Any, *, is_kept: bool) -> None:  # noqa: ANN401
    """Give back the row and the slots of a request; the tree gets the slots where ``is_kept``."""
    given = {"is_insert": is_kept, "checkpoint": is_kept}
    release = import_module(_COMMON).release_kv_cache
    release(request, tree, **accepted_arguments(release, given))


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


def evict_windows(batch: DecodeBatch, request: Any) -> None:  # noqa: ANN401 - the release's own class
    """Free the windows of a request that its next token does not see, as a batch does.

    Nothing where the release's batches have no such function.
    """
    cls = import_module(_BATCHES).ScheduleBatch
    evict = getattr(cls, "_evict_swa", None)
    if evict is not None:
        evict(batch, request, current_length(request) - 1)


def _module_of(function: str) -> Any:  # noqa: ANN401 - a module of the release
    for name in _ALLOCATION:
        try:
            module = import_module(name)
        except ImportError:
            continue
        if hasattr(module, function):
            return module
    raise AttributeError(f"a release without {function}")


def has_state(request: Any) -> bool:  # noqa: ANN401 - the release's own class
    """Return whether a request has a state slot."""
    holder = request if hasattr(request, "mamba_pool_idx") else request.kv
    return holder.mamba_pool_idx is not None


def state_of(request: Any) -> torch.Tensor:  # noqa: ANN401 - the release's own class
    """Return the state slot of a request, ``(1,) int64``."""
    holder = request if hasattr(request, "mamba_pool_idx") else request.kv
    state: torch.Tensor = holder.mamba_pool_idx
    return state.reshape(1)


def keep_checkpoint(request: Any, *, table: Any, page_size: int) -> torch.Tensor | None:  # noqa: ANN401
    """Note the state behind a prompt's last whole page as kept, as a batch does before its pass.

    Return its slot, ``(1,) int64``; None where the pass ends no page, or the request has one state.
    """
    holder = request if hasattr(request, "mamba_last_track_seqlen") else request.kv
    slots = getattr(holder, "mamba_ping_pong_track_buffer", None)
    known = prefix_length(request)
    page_num = (prompt_length(request) - known) // page_size
    if slots is None or not page_num:
        return None
    kept = holder.mamba_next_track_idx
    if hasattr(holder, "mamba_last_track_idx"):
        holder.mamba_last_track_idx = kept
    holder.mamba_next_track_idx = table.get_mamba_ping_pong_other_idx(kept)
    holder.mamba_last_track_seqlen = known + page_num * page_size
    slot: torch.Tensor = slots[kept].reshape(1)
    return slot


def commit(request: Any) -> None:  # noqa: ANN401 - the release's own class
    """Count the tokens of a request as computed, as a batch does before its forward pass."""
    for holder in (request, getattr(request, "kv", None)):
        for name in ("kv_committed_len", "kv_allocated_len"):
            if hasattr(holder, name):
                setattr(holder, name, current_length(request))
