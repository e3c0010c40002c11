"""Rows that attention writes: every setter of every pool is called for every layer it takes.

A setter is a method ``set_*`` that takes slots. Its rows are small whole numbers, which every dtype
of a pool can hold, others for every layer and parameter. Their shapes follow from the numbers of
heads and widths that the pool, or one that it holds, keeps as attributes.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, SimpleNamespace
from typing import Any

import torch

from traces.schema.pools import RowWrite, WrittenRows
from traces.schema.slot_ranges import sorted_slot_ranges
from traces.targets.common.content import RowBuffer, digest, pattern, row_bytes, slots_of_rows
from traces.targets.common.planes import Plane, SlotDomain
from traces.targets.sglang.accessors import parameters_of
from traces.targets.sglang.discovery import PACKAGE
from traces.targets.sglang.held_pools import HeldPool
from traces.targets.sglang.pool_answers import failure_text

STEP = "writes"
_SETTER = "set_"
_LAYER = "layer"
_LOCATION = "loc_info"
_SLOTS = ("loc", _LOCATION, "slots")
_LOCATION_FIELDS = {"loc", "swa_loc"}
_LAYERS_MAX = 64
_GAP_MAX = 16  # layers in a row that a pool lacks although it has one behind them
_VALUES = 16  # 0 to 15: exact in every floating-point dtype of a pool

_Shape = Callable[[Any], tuple[int, ...]]


def _heads(width: str) -> _Shape:
    return lambda pool: (pool.head_num, getattr(pool, width))


# Rows of one token by name of parameter: what a pool must know, tried in turn.
_SHAPES: Mapping[str, tuple[_Shape, ...]] = {
    "cache_k": (
        _heads("head_dim"),
        lambda pool: (1, pool.kv_lora_rank + pool.qk_rope_head_dim),
        lambda pool: (pool.qk_nope_head_dim + pool.qk_rope_head_dim,),
    ),
    "cache_v": (_heads("v_head_dim"), _heads("head_dim"), lambda pool: (1, pool.kv_lora_rank)),
    "cache_k_nope": (lambda pool: (1, pool.kv_lora_rank),),
    "cache_k_rope": (lambda pool: (1, pool.qk_rope_head_dim),),
    "cache_idx_k": (lambda pool: (1, pool.idx_head_dim), _heads("head_dim")),
    "cache_idx_v": (lambda pool: (1, pool.idx_head_dim), _heads("head_dim")),
    "index_k": (lambda pool: (pool.index_head_dim,),),
    "index_k_scale": (lambda pool: (pool.index_head_dim // pool.quant_block_size,),),
}
_DTYPES = {"index_k": torch.float8_e4m3fn, "index_k_scale": torch.float32}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setter:
    held: HeldPool
    name: str
    function: FunctionType
    wanted: tuple[inspect.Parameter, ...]

    @property
    def layer(self) -> inspect.Parameter | None:
        """The parameter that takes the layer, by number or as an attention layer."""
        return self.wanted[0] if _LAYER in self.wanted[0].name else None


class RowWriters:
    """Calls the setters of the pools of one stack, once nothing else uses their rows.

    Args:
        planes: all rows of the stack.
        domains: the slots of pools, by the identity of the pool.
    """

    def __init__(self, planes: Sequence[Plane], domains: Mapping[int, SlotDomain]) -> None:
        self._rows = [(plane, buffer) for plane in planes for buffer in plane.layers]
        self._domains = domains

    def write_all(self, pools: Sequence[HeldPool]) -> Iterator[RowWrite]:
        """Yield what every setter of every pool wrote, in order of pools and names.

        All rows of the stack are zeros before each of them, and at the end. An error of the release
        is the reason of a record.
        """
        for _, buffer in self._rows:
            buffer.tensor.zero_()
        for held in pools:
            for setter in _setters_of(held):
                yield self._write(setter)

    def _write(self, setter: _Setter) -> RowWrite:
        """Call one setter, unless the rows of one of its parameters are not known."""
        shapes, unknown = _row_shapes(setter)
        rows: tuple[WrittenRows, ...] = ()
        if unknown:
            reason = f"takes {unknown}, which is not known"
        else:
            reason = self._call(setter, shapes)
            rows = tuple(self._take_written())
        return RowWrite(
            step=STEP,
            holder=setter.held.path,
            method=setter.name,
            rows=rows,
            unknown=unknown,
            reason=reason,
        )

    def _take_written(self) -> Iterator[WrittenRows]:
        """Yield the rows of every plane that are not zeros, and make them zeros."""
        changed: dict[str, list[tuple[RowBuffer, torch.Tensor, torch.Tensor]]] = {}
        for plane, buffer in self._rows:
            content = row_bytes(buffer.tensor)
            rows = content.any(dim=1).nonzero().flatten()
            if rows.numel():
                changed.setdefault(plane.name, []).append((buffer, rows, content[rows]))
                buffer.tensor.zero_()
        for name, layers in changed.items():
            slots = {
                slot for buffer, rows, _ in layers for slot in slots_of_rows(buffer, rows).tolist()
            }
            yield WrittenRows(
                plane=name,
                layers=sorted_slot_ranges({buffer.layer for buffer, _, _ in layers}),
                slots=sorted_slot_ranges(slots),
                content=digest(content for _, _, content in layers),
            )

    def _call(self, setter: _Setter, shapes: Sequence[Mapping[str, tuple[int, ...]]]) -> str:
        """Call a setter for every layer; return why it failed for all of them, else nothing."""
        slots = self._slots_of(setter.held)
        choices = [_Arguments(setter, slots, known) for known in shapes]
        first = getattr(setter.held.pool, "start_layer", None) or 0
        failures: Counter[str] = Counter()
        in_a_row = 0
        for number in range(first, first + (_LAYERS_MAX if setter.layer else 1)):
            failure = _call_for_layer(setter, number, choices)
            failures[failure] += 1
            in_a_row = in_a_row + 1 if failure else 0
            if "" in failures and in_a_row == _GAP_MAX:
                break
        # Most layers are none of the pool's: why one that it has failed says more.
        return "" if "" in failures else min(failures, key=failures.__getitem__)

    def _slots_of(self, held: HeldPool) -> dict[str, torch.Tensor]:
        """Return three slots of two pages, and others for windows, in device memory."""
        domain = self._domains.get(id(held.pool))
        page = getattr(held.pool, "page_size", 1) if domain is None else domain.page_size
        numbers = sorted({page, 2 * page - 1, 2 * page})
        device = getattr(held.pool, "device", "cpu")
        return {
            "loc": torch.tensor(numbers, device=device),
            "swa_loc": torch.tensor([number + page for number in numbers], device=device),
        }


def _setters_of(held: HeldPool) -> Iterator[_Setter]:
    for name, function in held.methods():
        if name.startswith(_SETTER):
            parameters = parameters_of(held, name, function)
            wanted = tuple(
                one
                for one in parameters
                if one.default is inspect.Parameter.empty or one.name.endswith(_SLOTS)
            )
            if any(one.name.endswith(_SLOTS) for one in wanted):
                yield _Setter(held=held, name=name, function=function, wanted=wanted)


def _row_shapes(setter: _Setter) -> tuple[list[dict[str, tuple[int, ...]]], str]:
    """Return shapes of a token's rows as each pool that is involved knows them.

    The second is the name of a parameter whose rows no pool knows, else empty.
    """
    names = [one.name for one in setter.wanted]
    names = [name for name in names if _LAYER not in name and not name.endswith(_SLOTS)]
    found = []
    unknown = ""
    for pool in (setter.held.pool, *_inner_pools(setter.held.pool)):
        shapes = {name: _shape(name, pool) for name in names}
        unknown = unknown or next((name for name, shape in shapes.items() if shape is None), "")
        known = {name: shape for name, shape in shapes.items() if shape is not None}
        if len(known) == len(names) and known not in found:
            found.append(known)
    return found, "" if found else unknown


def _shape(name: str, pool: object) -> tuple[int, ...] | None:
    for shape in _SHAPES.get(name, ()):
        try:
            return shape(pool)
        except (AttributeError, TypeError):
            continue
    return None


def _inner_pools(pool: object) -> Iterator[object]:
    for value in getattr(pool, "__dict__", {}).values():
        if type(value).__module__.startswith(f"{PACKAGE}."):
            yield value


class _Arguments:
    """The arguments of a setter for rows of some shapes."""

    def __init__(
        self,
        setter: _Setter,
        slots: Mapping[str, torch.Tensor],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self._layer = setter.layer
        number = slots["loc"].numel()
        self._rows = {
            name: pattern(name, (number, *shape)).to(slots["loc"].device)
            for name, shape in shapes.items()
        }
        self._slots = {
            one.name: _write_location(setter.function, slots)
            if one.name == _LOCATION
            else slots.get(one.name, slots["loc"])
            for one in setter.wanted
            if one is not setter.layer and one.name not in shapes
        }

    def for_layer(self, number: int) -> dict[str, Any]:
        """Return the arguments for a layer, by number."""
        given = dict(self._slots)
        for name, rows in self._rows.items():
            values = (rows + number) % _VALUES
            given[name] = values.to(_DTYPES.get(name, torch.bfloat16))
        if self._layer is not None:
            is_number = self._layer.name != _LAYER or self._layer.annotation in (int, "int")
            given[self._layer.name] = number if is_number else _attention_layer(number)
        return given


def _call_for_layer(setter: _Setter, number: int, choices: Sequence[_Arguments]) -> str:
    """Call a setter with the first arguments that it takes; return how the first ones failed."""
    failures = []
    for arguments in choices:
        try:
            getattr(setter.held.pool, setter.name)(**arguments.for_layer(number))
        except Exception as error:  # noqa: BLE001 - recorded as the reason
            failures.append(failure_text(error))
        else:
            return ""
    return failures[0]


def _attention_layer(number: int) -> SimpleNamespace:
    return SimpleNamespace(layer_id=number, is_cross_attention=False, k_scale=None, v_scale=None)


def _write_location(function: FunctionType, slots: Mapping[str, torch.Tensor]) -> object:
    """Return slots in the form that a setter unwraps: the release's own class, if it has one."""
    modules = [function.__globals__]
    modules += [one.__globals__ for one in modules[0].values() if isinstance(one, FunctionType)]
    for module in modules:
        for kind in module.values():
            fields = getattr(kind, "__dataclass_fields__", {}) if isinstance(kind, type) else {}
            if fields.keys() >= _LOCATION_FIELDS:
                marks = {name: True for name in fields if name == "physical"}
                return kind(**slots, **marks)
    return slots["loc"]
