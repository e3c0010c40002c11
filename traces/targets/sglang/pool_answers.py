"""Answers of pools that describe their memory to others: pointers, lengths, dimensions.

Every public method is asked that needs no argument and is called ``get_*``, ``is_*`` or so, or
answers buffer infos, and every public property is read. Disaggregation registers these pointers
with its transport, and storage backends register those of host pools: whatever is wrong in them
shows on another machine only.
"""

import dataclasses
import inspect
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from numbers import Integral
from types import FunctionType
from typing import Any

import torch

from traces.schema.pools import ByteRange, ExportedBuffer, PoolAnswer
from traces.targets.common.planes import Plane
from traces.targets.common.pool_buffers import buffers_of, span_bytes
from traces.targets.common.source_reads import note_code_read
from traces.targets.sglang.accessors import PoolAccessMethod, accessors_of
from traces.targets.sglang.held_pools import HeldPool
from traces.targets.sglang.pageable import pageable

_QUESTIONS = ("is_", "has_", "supports_", "uses_", "stores_")
_ASKED = ("get_", *_QUESTIONS)
_READS_ADDRESS = "data_ptr"
_INFOS = "buf_infos"
_INFO_LISTS = 3
_DEPTH_MAX = 6
LAYERS_ASKED = 8
"""Layers for which an accessor is asked, from the first one of its pool on: more than any has."""

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
# No size or number of a scenario is as large; an address of a 64-bit process is.
_ADDRESS_MIN = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    start: int
    end: int
    pool: str
    plane: str
    layer: int | None
    layers: int
    page_bytes: int

    @property
    def name(self) -> str:
        """Name of the rows, or of the buffer."""
        return f"{self.pool}.{self.plane}[{self.layer}]" if self.pool else self.plane


class KnownMemory:
    """The rows of all planes of a stack, then all other buffers of its pools, by address."""

    def __init__(
        self, planes: Iterable[Plane], *, device: Sequence[HeldPool], host: Sequence[HeldPool]
    ) -> None:
        pages = _own_page_sizes(device)
        rows = [
            _rows(plane, layer, pages) for plane in planes for layer in range(len(plane.layers))
        ]
        on_device = [part for held in device for part in _buffers(held)]
        self._device_starts = {memory.start for memory in (*rows, *on_device)}
        on_host = [part for held in host for part in _buffers(held)]
        buffers = [*on_device, *on_host]
        self._tables = tuple(
            sorted(part, key=lambda memory: memory.start) for part in (rows, buffers)
        )

    def export(self, address: int, size: int, item: int) -> ExportedBuffer:
        """Return the record of a pointer with its length and its item length."""
        found = self._find(address)
        if found is None:
            return ExportedBuffer(
                pool="",
                plane="",
                layer=None,
                layers=0,
                offset=0,
                bytes=size,
                item_bytes=item,
                held_bytes=0,
                page_bytes=0,
            )
        return ExportedBuffer(
            pool=found.pool,
            plane=found.plane,
            layer=found.layer,
            layers=found.layers,
            offset=address - found.start,
            bytes=size,
            item_bytes=item,
            held_bytes=found.end - address,
            page_bytes=found.page_bytes,
        )

    def view(self, address: int, size: int) -> ByteRange:
        """Return the record of a tensor."""
        found = self._find(address)
        if found is None:
            return ByteRange(buffer="", first=0, bytes=size)
        return ByteRange(buffer=found.name, first=address - found.start, bytes=size)

    def is_known(self, address: int) -> bool:
        """Return whether an address lies in a buffer of a pool."""
        return self._find(address) is not None

    def is_device(self, address: int) -> bool:
        """Return whether a buffer of a device pool begins at an address."""
        return address in self._device_starts

    def _find(self, address: int) -> _Memory | None:
        for table in self._tables:
            place = bisect_right(table, address, key=lambda memory: memory.start) - 1
            if place >= 0 and address < table[place].end:
                return table[place]
        return None


def _own_page_sizes(pools: Iterable[HeldPool]) -> dict[int, int]:
    """Return the number of rows that pools count as a page, by the storage of their buffers."""
    return {
        buffer.tensor.untyped_storage().data_ptr(): held.pool.page_size
        for held in pools
        if isinstance(getattr(held.pool, "page_size", None), int)
        for buffer in buffers_of(held.pool)
    }


def _rows(plane: Plane, layer: int, pages: Mapping[int, int]) -> _Memory:
    """Return the memory of a layer; ``pages`` has rows a page, by storage.

    A draft's pool has rows for the slots of all ranks that share a page, and pages of its own.
    """
    buffer = plane.layers[layer]
    start, tensor = buffer.tensor.data_ptr(), buffer.tensor
    page_rows = plane.domain.page_size // buffer.slots_per_row
    own_rows = pages.get(tensor.untyped_storage().data_ptr(), page_rows)
    return _Memory(
        start=start,
        end=start + span_bytes(tensor),
        pool=plane.pool,
        plane=plane.plane,
        layer=layer,
        layers=len(plane.layers),
        page_bytes=tensor[0].nbytes * min(page_rows, own_rows),
    )


def _buffers(held: HeldPool) -> Iterator[_Memory]:
    for buffer in buffers_of(held.pool):
        start = buffer.tensor.data_ptr()
        yield _Memory(
            start=start,
            end=start + span_bytes(buffer.tensor),
            pool="",
            plane=f"{held.path}.{buffer.name}",
            layer=None,
            layers=0,
            page_bytes=0,
        )


def ask_all(
    device: Sequence[HeldPool], others: Sequence[HeldPool], memory: KnownMemory, *, step: str
) -> Iterator[PoolAnswer]:
    """Ask device pools, host pools and their group; device pools for the values of layers, too."""
    judging = {name for pool in (*device, *others) for name in _judging_addresses(pool)}
    for pool in (*device, *others):
        methods = (name for name in answered_methods(pool) if name not in judging)
        for name in (*methods, *answered_properties(pool)):
            yield ask(pool, name, memory, step=step)
    for pool in device:
        yield from ask_by_layer(pool, memory, step=step)


def told_values(*, step: str, holder: str, method: str, values: list[Any]) -> PoolAnswer:
    """Return the record of what a holder says, without any memory of a pool."""
    return PoolAnswer(
        step=step, holder=holder, method=method, buffers=(), views=(), values=values, reason=""
    )


def answered_methods(held: HeldPool) -> Iterator[str]:
    """Yield the methods of a pool that can be asked."""
    for name, method in held.methods():
        is_asked = name.startswith(_ASKED) or _INFOS in name
        if is_asked and _needs_nothing(method):
            yield name


def _judging_addresses(held: HeldPool) -> Iterator[str]:
    """Yield the methods that answer a question from the addresses of tensors.

    Every process has others. A pool or a group may forward such a question to one that does.
    """
    for name, method in held.methods():
        if name.startswith(_QUESTIONS):
            note_code_read(method)
            if _READS_ADDRESS in method.__code__.co_names:
                yield name


def answered_properties(held: HeldPool) -> Iterator[str]:
    """Yield the public properties of a pool, in order of names."""
    kind: type = type(held.pool)
    yield from _public_properties(kind)


@cache
def _public_properties(kind: type) -> tuple[str, ...]:
    names = (name for name in dir(kind) if not name.startswith("_"))
    return tuple(name for name in names if isinstance(inspect.getattr_static(kind, name), property))


def ask(held: HeldPool, name: str, memory: KnownMemory, *, step: str) -> PoolAnswer:
    """Call a method of a pool or read a property; an error of it is the reason of the record."""
    reader = AnswerReader(memory)
    values, reason = None, ""
    try:
        with pageable("zeros"):
            answer = getattr(held.pool, name)
            is_method = isinstance(inspect.getattr_static(type(held.pool), name), FunctionType)
            values = reader.read(answer() if is_method else answer)
    except Exception as error:  # noqa: BLE001 - recorded as the reason
        reason = failure_text(error)
    return PoolAnswer(
        step=step,
        holder=held.path,
        method=name,
        buffers=tuple(reader.buffers),
        views=tuple(reader.views),
        values=values,
        reason=reason,
    )


def ask_by_layer(held: HeldPool, memory: KnownMemory, *, step: str) -> Iterator[PoolAnswer]:
    """Ask a pool for the plain values that its accessors answer for a layer: sizes, layouts.

    The values are pairs of layer and answer, None for a layer that it refuses. What hands out
    tensors alone is read behind a load, and has no answer here.
    """
    first = getattr(held.pool, "start_layer", None) or 0
    for accessor in accessors_of(held):
        if not accessor.layer or accessor.takes_object or accessor.wanted:
            continue
        answers = [
            (layer, _answer_of(accessor, layer, memory))
            for layer in range(first, first + LAYERS_ASKED)
        ]
        if any(value is not None for _, value in answers):
            yield PoolAnswer(
                step=step,
                holder=held.path,
                method=accessor.name,
                buffers=(),
                views=(),
                values=[[layer, value] for layer, value in answers],
                reason="",
            )


def _answer_of(accessor: PoolAccessMethod, layer: int, memory: KnownMemory) -> Any:  # noqa: ANN401
    try:
        with pageable("zeros"):
            return AnswerReader(memory).read(accessor.call(layer, {}))
    except Exception:  # noqa: BLE001 - pools raise different errors for unknown layers
        return None


def failure_text(error: Exception) -> str:
    """Return an exception as one line, addresses as stars: every process has others."""
    return _ADDRESS.sub("*", " ".join(f"{type(error).__name__}: {error}".split()))


def _needs_nothing(method: FunctionType) -> bool:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(
        parameter.default is not inspect.Parameter.empty or parameter.kind in optional
        for parameter in parameters
    )


class AnswerReader:
    """Reads one answer: pointers become exported buffers, tensors views, the rest plain values."""

    def __init__(self, memory: KnownMemory) -> None:
        self._memory = memory
        self.buffers: list[ExportedBuffer] = []
        self.views: list[ByteRange] = []

    def read(self, answer: Any, depth: int = 0) -> Any:  # noqa: ANN401
        """Return the plain values of an answer, None for none; append its buffers and views.

        Addresses that stand alone are no values: every process has others.
        """
        if isinstance(answer, torch.Tensor):
            self.views.append(self._memory.view(answer.data_ptr(), answer.nbytes))
            return None
        if isinstance(answer, Enum):
            return answer.name
        if isinstance(answer, bool | float | str | None):
            return answer
        if isinstance(answer, Integral):
            return None if int(answer) >= _ADDRESS_MIN else int(answer)
        if isinstance(answer, torch.dtype):
            return str(answer)
        if depth == _DEPTH_MAX:
            return None
        if isinstance(answer, dict):
            values = [self.read(value, depth + 1) for value in answer.values()]
        elif isinstance(answer, list | tuple):
            values = self._read_sequence(answer, depth)
        else:
            values = [self.read(value, depth + 1) for value in _fields(answer)]
        return None if all(value is None for value in values) else values

    def _read_sequence(self, answer: Sequence[Any], depth: int) -> list[Any]:
        if self._is_infos(answer):
            infos = zip(*answer[:_INFO_LISTS], strict=True)
            self.buffers += [self._memory.export(*map(int, info)) for info in infos]
            answer = answer[_INFO_LISTS:]
        return [self.read(value, depth + 1) for value in answer]

    def _is_infos(self, answer: Sequence[Any]) -> bool:
        """Return whether an answer begins with equally long lists of pointers and two lengths."""
        lists = answer[:_INFO_LISTS]
        return (
            len(lists) == _INFO_LISTS
            and all(isinstance(one, list | tuple) for one in lists)
            and len({len(one) for one in lists}) == 1
            and all(isinstance(number, Integral) for one in lists for number in one)
            and any(self._memory.is_known(pointer) for pointer in lists[0])
        )


def _fields(answer: object) -> list[Any]:
    """Return the values of a record; nothing of any other object."""
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return [getattr(answer, field.name) for field in dataclasses.fields(answer)]
    return [getattr(answer, name) for name in getattr(type(answer), "__struct_fields__", ())]
