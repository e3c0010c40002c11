"""Device pools as an external cache linker sees them: groups of a release, and what they answer.

A linker moves pages between device pools and storage without a host pool between them. Its group
is made by a function that a release may have, from what a stack is made from. The group is asked
as linkers do: for the pools of a transfer, for the memory of a page, for the parts of a layer.
"""

import inspect
from collections.abc import Iterator, Sequence
from functools import cache
from types import FunctionType
from typing import Any

import torch

from traces.recording.binding import signature_of
from traces.recording.probes import CallProbe
from traces.schema.model import Part
from traces.schema.pools import PoolAnswer
from traces.targets.common.probes import method_probe
from traces.targets.sglang.discovery import find_class, installed_release, method_definitions
from traces.targets.sglang.entry_points import EntryCall
from traces.targets.sglang.held_pools import held_by
from traces.targets.sglang.pool_answers import KnownMemory

STEP = "linker"
_RESOLVES = "resolve_"
_NEEDED = {"kvcache", "page_size", "params", "components"}
_ENTRY_OF, _GROUP_OF = "device_pool", "entries"
# Not neighbours, and not in order.
_PAGES = (3, 1)
# A slot number may have either width.
_SLOTS = torch.int32


@cache
def group_function() -> FunctionType | None:
    """Return the function of the release that makes the group of a linker; None without one."""
    for module in installed_release().modules:
        for name, value in vars(module).items():
            is_function = name.startswith(_RESOLVES) and isinstance(value, FunctionType)
            if is_function and signature_of(value).parameters.keys() >= _NEEDED:
                found: FunctionType = value
                return found
    return None


def entry_class() -> type | None:
    """Return the class of the release that shows one device pool to a linker."""
    return _class_that_takes(_ENTRY_OF)


def group_class() -> type | None:
    """Return the class of the release that holds the pools of a linker."""
    return _class_that_takes(_GROUP_OF)


def _class_that_takes(parameter: str) -> type | None:
    function = group_function()
    if function is None:
        return None
    own = (cls for cls in installed_release().classes if cls.__module__ == function.__module__)
    return next((cls for cls in own if parameter in inspect.signature(cls).parameters), None)


def linker_probes() -> Iterator[CallProbe]:
    """Yield probes of what shows device pools to a linker, and of what it asks their group."""
    function, entry, group = group_function(), entry_class(), group_class()
    if function is None or entry is None or group is None:
        return
    yield CallProbe(
        function=function,
        callee=function.__name__,
        role="builder",
        method="",
        names_pools=None,
        part="",
    )
    parts: tuple[tuple[type, Part], ...] = ((entry, "entry"), (group, "group"))
    for cls, part in parts:
        for owner, made in method_definitions((cls,), "__init__"):
            yield method_probe(owner, made, role="constructor", part=part, names_pools=None)
    for name, method in vars(group).items():
        if isinstance(method, FunctionType) and not name.startswith("_"):
            yield method_probe(group, method, role="operation", part="group", names_pools=None)


class LinkerPools:
    """The group of a linker over the pools of one stack.

    Args:
        entry_call: what a stack would be made from.
        name: begins the names of the pools in the records.

    Raises:
        Exception: any error of the release: it refuses many kinds of pools.
    """

    def __init__(self, entry_call: EntryCall, *, name: str) -> None:
        pools, params = entry_call.device_pools, entry_call.params()
        function = group_function()
        assert function is not None, "asked of releases that have one"
        given = {
            "kvcache": pools.kvcache,
            "page_size": entry_call.page_size,
            "params": params,
            "components": set(params.tree_components),
        }
        self._name = name
        self._group = entry_call.caller.call(function, given)
        drafts = (*entry_call.drafts, *entry_call.draft_states)
        held = held_by(pools.kvcache, pools.req_to_token_pool, drafts)
        self._memory = KnownMemory((), device=held, host=())

    def answers(self) -> Iterator[PoolAnswer]:
        """Resolve transfers as a linker does, and yield the memory of every pool's pages."""
        self._resolve()
        for entry in self._group.entries:
            yield from self._pages(entry)

    def _resolve(self) -> None:
        """Resolve the transfers of all pools, and of all but the one that others follow."""
        transfer = find_class("PoolTransfer")
        policies = list(find_class("PoolHitPolicy"))
        by_name = {entry.name: entry for entry in self._group.entries}
        sources = list(dict.fromkeys(self._group.sources.values()))
        transfers = [
            transfer(
                name=source,
                device_indices=_slots(by_name.get(source, self._group).page_size),
                keys=[f"page{page}" for page in _PAGES],
                # No default.
                hit_policy=policies[-1],
            )
            for source in sources
        ]
        self._group.resolve_transfers(transfers)
        self._group.resolve_transfers(transfers[1:], allow_partial=True, allow_missing_kv=True)

    def _pages(self, entry: Any) -> Iterator[PoolAnswer]:  # noqa: ANN401 - of the release
        slots = _slots(entry.page_size)
        yield self._answer(entry, "get_page_buffer_meta", [entry.get_page_buffer_meta(slots)])
        locations = entry.prepare_locations(slots)
        parts = [
            entry.get_prepared_layer_range_meta(locations, layer)
            for layer in range(self._group.num_layers)
        ]
        yield self._answer(entry, "get_prepared_layer_range_meta", parts)

    def _answer(
        self,
        entry: Any,  # noqa: ANN401 - of the release
        method: str,
        answers: Sequence[Any],
    ) -> PoolAnswer:
        """Return the record of answers: pointers, sizes and perhaps offsets; None for nothing."""
        found = [answer or ((), ()) for answer in answers]
        views = (
            self._memory.view(pointer, size)
            for pointers, sizes, *_ in found
            for pointer, size in zip(_flat(pointers), _flat(sizes), strict=True)
        )
        return PoolAnswer(
            step=STEP,
            holder=f"{self._name}.{entry.name.value}",
            method=method,
            buffers=(),
            views=tuple(views),
            values=[[len(list(_flat(sizes))), *offsets] for _, sizes, *offsets in found],
            reason="",
        )


def _slots(page_size: int) -> torch.Tensor:
    return torch.cat(
        [torch.arange(page * page_size, (page + 1) * page_size, dtype=_SLOTS) for page in _PAGES]
    )


def _flat(numbers: Any) -> Iterator[int]:  # noqa: ANN401 - numbers, or lists of them
    for number in numbers:
        if isinstance(number, list):
            yield from number
        else:
            yield number
