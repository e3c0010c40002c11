"""Facts that disaggregation derives from pools: state buffers of a rank, slices between ranks.

A rank tells its peer where its buffers lie; where the peer has another number of ranks, both
compute which heads and channels go where. No peer and no network is needed to see either. The
functions are found by their parameters.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from itertools import product
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import msgspec

from traces.recording.binding import signature_of
from traces.schema.pools import PoolAnswer, RankSlices
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.pool_answers import AnswerReader, KnownMemory, failure_text
from traces.targets.sglang.rank_slices import (
    RankPair,
    SlicedItems,
    rank_slices,
    read_blocks,
)

HOLDER = "disaggregation"

_PACKAGE = "sglang.srt.disaggregation"
_FOLDERS = ("", ".common")
_FILLED, _POOL = "kv_args", "token_to_kv_pool"
_POINTERS, _LENGTHS, _ITEMS = "state_data_ptrs", "state_data_lens", "state_item_lens"
_SIZES = ("src_attn_tp_size", "dst_attn_tp_size")
# Equal, narrower, wider, and more ranks than there are heads on either side.
_RANK_PAIRS = ((2, 2), (4, 2), (2, 4), (1, 4), (4, 1), (16, 2), (2, 16))
_HEADS, _CHANNELS, _GROUPS = 8, 768, [256, 256, 256]
_LAYERS, _TOKENS, _ROW_BYTES = 4, 16, 256
_CHANNEL_BYTES = 2


@cache
def state_functions() -> dict[str, FunctionType]:
    """Return the functions of a release that tell a peer about state, by name."""
    return _functions_with({_FILLED, _POOL})


@cache
def slice_functions() -> dict[str, FunctionType]:
    """Return the functions of a release that slice between numbers of ranks, by name."""
    return _functions_with(set(_SIZES))


def answering_functions() -> dict[str, FunctionType]:
    """Return all of these functions by the path under which records name them."""
    functions = (state_functions() | slice_functions()).items()
    return {f"{HOLDER}.{name}": function for name, function in functions}


def _functions_with(parameters: set[str]) -> dict[str, FunctionType]:
    found: dict[str, FunctionType] = {}
    for module in _modules():
        for name, value in sorted(vars(module).items()):
            is_own = isinstance(value, FunctionType) and value.__module__ == module.__name__
            if is_own and parameters <= signature_of(value).parameters.keys():
                found.setdefault(name, value)
    return dict(sorted(found.items()))


def state_answers(stack: AssembledStack, memory: KnownMemory, *, step: str) -> Iterator[PoolAnswer]:
    """Yield what a rank tells its peer about the state of a stack."""
    for name, function in state_functions().items():
        reader = AnswerReader(memory)
        describe = partial(_described_state, function, stack, reader)
        yield _answer(name, describe, reader, step)


def slice_answers(memory: KnownMemory, *, step: str) -> Iterator[PoolAnswer]:
    """Yield the slices between several numbers of ranks."""
    for name, function in slice_functions().items():
        answer = _answer(name, partial(_slices, function), AnswerReader(memory), step)
        yield msgspec.structs.replace(answer, slices=_received(function, answer.values))


def _answer(name: str, values_of: Callable[[], Any], reader: AnswerReader, step: str) -> PoolAnswer:
    """Return the record of one function; an error is its reason."""
    values, reason = None, ""
    try:
        values = values_of()
    except Exception as error:  # noqa: BLE001 - recorded as the reason
        reason = failure_text(error)
    return PoolAnswer(
        step=step,
        holder=HOLDER,
        method=name,
        buffers=tuple(reader.buffers),
        views=tuple(reader.views),
        values=values,
        reason=reason,
    )


@cache
def _modules() -> tuple[ModuleType, ...]:
    """Return the modules of disaggregation that can be imported; transports need packages."""
    found = []
    for folder in _FOLDERS:
        try:
            package = importlib.import_module(_PACKAGE + folder)
            names = [one.name for one in pkgutil.iter_modules(package.__path__) if not one.ispkg]
        except ImportError:
            continue
        for name in names:
            try:
                found.append(importlib.import_module(f"{package.__name__}.{name}"))
            except Exception:  # noqa: BLE001 - a transport without its package
                continue
    return tuple(found)


def _described_state(function: FunctionType, stack: AssembledStack, reader: AnswerReader) -> Any:  # noqa: ANN401
    """Return the plain values that a rank tells about its state; its buffers go to the reader."""
    told = SimpleNamespace()
    draft = stack.draft_pools[0] if stack.draft_pools else None
    given = {
        _FILLED: told,
        _POOL: stack.kvcache,
        "draft_token_to_kv_pool": draft,
        "total_kv_layers": _LAYERS,
        "req_to_token_pool": stack.req_to_token_pool,
    }
    taken = inspect.signature(function).parameters
    function(**{name: value for name, value in given.items() if name in taken})
    fields = vars(told)
    infos = [fields.pop(name, []) for name in (_POINTERS, _LENGTHS, _ITEMS)]
    for component in zip(*infos, strict=True):
        reader.read(component)
    return {name: reader.read(value) for name, value in sorted(fields.items())}


def _slices(function: FunctionType) -> list[Any]:
    """Return a function's result for every pair of ranks of every pair of rank counts."""
    return [
        _plain(function(**_slice_arguments(function, sizes, ranks)))
        for sizes, ranks in _rank_pairs()
    ]


def _rank_pairs() -> Iterator[tuple[RankPair, RankPair]]:
    """Yield pairs of rank counts, each with every pair of a sending and a receiving rank."""
    for sizes in _RANK_PAIRS:
        for ranks in product(range(sizes[0]), range(sizes[1])):
            yield sizes, ranks


def _received(function: FunctionType, answers: Any) -> tuple[RankSlices, ...]:  # noqa: ANN401
    """Return what receiving ranks get by a function; nothing where it answers no blocks."""
    blocks = {
        ranks: block
        for ranks, answer in zip(_rank_pairs(), answers or (), strict=False)
        if (block := read_blocks(answer)) is not None
    }
    if not blocks or len(blocks) < len(answers):
        return ()
    return tuple(rank_slices(_sliced_items(function), _RANK_PAIRS, blocks))


def _sliced_items(function: FunctionType) -> SlicedItems:
    """Return what a function slices, by its parameters: heads, channels, or bytes of channels."""
    taken = inspect.signature(function).parameters
    if "total_kv_heads" in taken:
        return SlicedItems(groups=(_HEADS,))
    groups = tuple(_GROUPS) if "conv_shard_groups" in taken else (_CHANNELS,)
    return SlicedItems(groups=groups, width=_CHANNEL_BYTES if "src_item_len" in taken else 1)


def _slice_arguments(function: FunctionType, sizes: RankPair, ranks: RankPair) -> Mapping[str, Any]:
    """Return arguments by name.

    Raises:
        TypeError: the function takes something else.
    """
    dims = [_CHANNELS // size for size in sizes]
    known = {
        **dict(zip(_SIZES, sizes, strict=True)),
        **dict(zip(("src_dim", "dst_dim"), dims, strict=True)),
        "src_item_len": _CHANNEL_BYTES * dims[0],
        "dst_item_len": _CHANNEL_BYTES * dims[1],
        "total_kv_heads": _HEADS,
        "num_layers": _LAYERS,
        "num_tokens": _TOKENS,
        "bytes_per_head_token": _ROW_BYTES,
        "outer_count": 1,
        "conv_shard_groups": _GROUPS,
    }
    given = {}
    for parameter in signature_of(function).parameters.values():
        if parameter.name in known:
            given[parameter.name] = known[parameter.name]
        elif "rank" in parameter.name:
            given[parameter.name] = ranks["dst" in parameter.name]
        elif parameter.default is inspect.Parameter.empty:
            raise TypeError(f"takes {parameter.name}, which is not known")
    return given


def _plain(value: Any) -> Any:  # noqa: ANN401 - numbers in lists and tuples
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
