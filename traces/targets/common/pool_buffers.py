"""Buffers of a pool, found by walking its attributes; no pool class is named."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

_DEPTH_MAX = 4
_NUMBER = re.compile(r"\[(\d+)\]")
_ROW_AXES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolBuffer:
    """One piece of memory that a pool owns.

    Attributes:
        name: attribute path in the pool: ``kv_buffer[2]``, ``mamba_cache.temporal``.
        tensor: its largest view.
    """

    pool: object
    name: str
    tensor: torch.Tensor

    @property
    def attribute(self) -> str:
        """The last attribute of the name, without numbers: ``temporal``."""
        return _NUMBER.sub("", self.name).rpartition(".")[2]

    @property
    def number(self) -> int | None:
        """The last number of the name, None when it has none."""
        numbers = _NUMBER.findall(self.name)
        return int(numbers[-1]) if numbers else None


def buffers_of(pool: object, *, apart: tuple[type, ...] = ()) -> Iterator[PoolBuffer]:
    """Yield every piece of memory that can be reached from a pool, each once, in order of names.

    Tables of numbers and pointers, free lists and mappings, which have one axis, are no buffers.
    Objects of the classes ``apart`` are only referred to: their memory is their own.
    """
    seen: dict[int, PoolBuffer] = {}
    found = _reachable(pool, "", depth=0, inside={id(pool)}, apart=apart)
    # Two names may share memory: the plain one counts, not a place in a list of views.
    for name, tensor in sorted(found, key=lambda item: ("[" in item[0], item[0])):
        if tensor.numel() == 0 or tensor.dim() < _ROW_AXES:
            continue
        start = tensor.data_ptr()
        known = seen.get(start)
        if known is None or span_bytes(tensor) > span_bytes(known.tensor):
            seen[start] = PoolBuffer(pool=pool, name=name, tensor=tensor)
    end = 0
    whole = []
    for start, buffer in sorted(seen.items()):
        if start >= end:
            whole.append(buffer)
            end = start + span_bytes(buffer.tensor)
    yield from sorted(whole, key=lambda buffer: _natural_sort_key(buffer.name))


def _reachable(
    value: Any,  # noqa: ANN401 - whatever a pool holds
    name: str,
    *,
    depth: int,
    inside: set[int],
    apart: tuple[type, ...],
) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, list | tuple | dict):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(key, str | int):
                place = f"{name}[{key}]"
                yield from _reachable(item, place, depth=depth, inside=inside, apart=apart)
    elif depth < _DEPTH_MAX and (depth == 0 or (_is_own(value) and not isinstance(value, apart))):
        for key, item in _attributes(value):
            place = f"{name}.{key}" if name else key
            if id(item) not in inside:
                within = inside | {id(item)}
                yield from _reachable(item, place, depth=depth + 1, inside=within, apart=apart)


def _attributes(value: object) -> Iterable[tuple[str, Any]]:
    fields = getattr(type(value), "__struct_fields__", ())
    struct = {key: getattr(value, key) for key in fields}
    return {**getattr(value, "__dict__", {}), **struct}.items()


def _is_own(value: object) -> bool:
    return type(value).__module__.startswith(("sglang.", "assembler.device_pools."))


def span_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes from the first to the end of the last element of a strided tensor."""
    steps = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return (steps + 1) * tensor.element_size()


def _natural_sort_key(name: str) -> tuple[object, ...]:
    head, bracket, rest = name.partition("[")
    number = rest.partition("]")[0]
    return (head, int(number) if bracket and number.isdigit() else -1, rest)
