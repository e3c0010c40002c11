"""Accessors of pools: found by their signatures, called with arguments made from them."""

import dis
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any

import torch

from traces.recording.binding import signature_of
from traces.targets.common.source_reads import note_code_read
from traces.targets.sglang.held_pools import HeldPool

_LAYER = "layer"
_GETTER, _SETTER = "get_", "set_"
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_REQUEST = 1
_BATCH = "_tensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolAccessMethod:
    """A method that hands out rows: of one layer, or without a layer the rows of some slots.

    Attributes:
        wanted: parameters beside the layer that have no default.
        layer: name of the parameter that takes the layer; empty for none.
        takes_object: whether that is an attention layer rather than its number.
    """

    held: HeldPool
    name: str
    wanted: tuple[inspect.Parameter, ...]
    layer: str
    takes_object: bool

    @property
    def label(self) -> str:
        """Name of the method, with the path of a pool that others hold or that is a draft's."""
        is_outer = not self.held.outer and not self.held.is_draft
        return self.name if is_outer else f"{self.held.path}.{self.name}"

    def call(self, layer: int, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Call the method for a layer of the model.

        Raises:
            Exception: any error of the release.
        """
        given = {parameter.name: arguments[parameter.name] for parameter in self.wanted}
        if self.layer:
            given[self.layer] = self._attention_layer(layer) if self.takes_object else layer
        return getattr(self.held.pool, self.name)(**given)

    def _attention_layer(self, number: int) -> SimpleNamespace:
        pool = self.held.pool
        heads, width = getattr(pool, "head_num", 1), getattr(pool, "head_dim", 1)
        return SimpleNamespace(
            layer_id=number, tp_k_head_num=heads, tp_v_head_num=heads, head_dim=width
        )


def accessors_of(held: HeldPool) -> Iterator[PoolAccessMethod]:
    """Yield the accessors of a pool, those of one layer first.

    An accessor of a layer takes one and returns something; one without a layer is called ``get_*``
    and takes something else.
    """
    found = [
        accessor
        for name, method in held.methods()
        if not name.startswith(_SETTER) and (accessor := _accessor(held, name, method)) is not None
    ]
    yield from sorted(found, key=lambda accessor: not accessor.layer)


def _accessor(held: HeldPool, name: str, method: FunctionType) -> PoolAccessMethod | None:
    parameters = parameters_of(held, name, method)
    wanted = tuple(
        parameter for parameter in parameters if parameter.default is inspect.Parameter.empty
    )
    layered = bool(wanted) and _LAYER in wanted[0].name and _returns_value(method)
    if not layered and not (wanted and name.startswith(_GETTER)):
        return None
    first = wanted[0]
    return PoolAccessMethod(
        held=held,
        name=name,
        wanted=wanted[1:] if layered else wanted,
        layer=first.name if layered else "",
        takes_object=first.name == _LAYER and first.annotation not in (int, "int"),
    )


def parameters_of(held: HeldPool, name: str, method: FunctionType) -> list[inspect.Parameter]:
    """Return the parameters of a method; what it passes on are those of the pool it holds."""
    own = list(signature_of(method).parameters.values())[1:]
    named = [parameter for parameter in own if parameter.kind not in _VARIADIC]
    if len(named) == len(own):
        return named
    for part in vars(held.pool).values():
        inner = inspect.getattr_static(type(part), name, None)
        if isinstance(inner, FunctionType):
            known = {parameter.name for parameter in named}
            passed = list(signature_of(inner).parameters.values())[1:]
            return named + [
                parameter
                for parameter in passed
                if parameter.name not in known and parameter.kind not in _VARIADIC
            ]
    return named


def _returns_value(method: FunctionType) -> bool:
    """Return whether a method has a ``return`` with a value, other than None.

    It is read from the bytecode that runs: the text on disk may be another one.
    """
    note_code_read(method)
    return _code_returns_value(inspect.unwrap(method).__code__)


@cache
def _code_returns_value(code: CodeType) -> bool:
    for before, instruction in pairwise(dis.get_instructions(code)):
        if instruction.opname == "RETURN_CONST" and instruction.argval is not None:
            return True
        if instruction.opname == "RETURN_VALUE":
            is_none = before.opname == "LOAD_CONST" and before.argval is None
            # A jump to a return brings a value, as in ``return found or None``.
            if not is_none or instruction.is_jump_target:
                return True
    return False


class ArgumentMaker:
    """Makes arguments from the names and the types of parameters.

    Args:
        slots: KV slots of a loaded node, in device memory.
        pages: their pages, likewise.
        page_size: tokens of a page.
        request_table: table from requests to slots, ``(requests, tokens) int32``.
    """

    def __init__(
        self,
        *,
        slots: torch.Tensor,
        pages: torch.Tensor,
        page_size: int,
        request_table: torch.Tensor | None,
    ) -> None:
        one = torch.ones_like(slots[:1])
        self._pages = pages
        self._named: dict[str, Any] = {
            "page_indices": pages,
            "seq_len_tensor": one * page_size,
            "seq_lens": one * page_size,
            "req_to_token": request_table,
            "req_pool_indices": one * _REQUEST,
            "req_indices": one * _REQUEST,
        }
        self._typed: dict[Any, Any] = {
            "int": page_size,
            "bool": True,
            # One of every page: kernels that copy rows are slow without a GPU.
            "Tensor": slots[::page_size],
            "list": [_REQUEST],
        }

    def arguments(self, accessor: PoolAccessMethod) -> tuple[dict[str, Any], str]:
        """Return the arguments of an accessor, and the name of one that is unknown, else empty."""
        made = {}
        is_batch = any(parameter.name.endswith(_BATCH) for parameter in accessor.wanted)
        for parameter in accessor.wanted:
            if parameter.name in self._named:
                value = self._named[parameter.name]
                # Of a batch of requests, each has a row of pages.
                made[parameter.name] = value[None] if is_batch and value is self._pages else value
                continue
            kind = _type_name(parameter)
            if kind not in self._typed:
                return {}, parameter.name
            made[parameter.name] = self._typed[kind]
        return made, ""


def _type_name(parameter: inspect.Parameter) -> str:
    """Return the type that an annotation, else the name of a parameter, says; empty for none."""
    annotation = parameter.annotation
    if annotation is not inspect.Parameter.empty:
        text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
        return text.rpartition(".")[2]
    if parameter.name.endswith("_cpu"):
        return "list"
    if parameter.name.endswith(("loc", "indices", "slots")):
        return "Tensor"
    return "int" if parameter.name.endswith(("len", "size", "sum")) else ""
