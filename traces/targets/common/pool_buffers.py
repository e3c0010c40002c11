"""Buffers of a pool, found by walking its attributes; no pool class is named."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from traces.recording.probes import BufferPath

_DEPTH_MAX = 4
_ROW_AXES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolBuffer:
    """One piece of memory that a pool owns.

    Attributes:
        path: from the pool: ``kv_buffer[2]``, ``mamba_cache.temporal``.
        tensor: its largest view.
    """

    pool: object
    path: BufferPath
    tensor: torch.Tensor

    @property
    def name(self) -> str:
        """The path as text."""
        return self.path.text

    @property
    def attribute(self) -> str:
        """The last attribute of the path, without numbers: ``temporal``."""
        return self.path.attribute.rpartition(".")[2]

    @property
    def number(self) -> int | None:
        """The last place in a list, None when it is in none."""
        return self.path.index[-1] if self.path.index else None


def buffers_of(pool: object, *, apart: tuple[type, ...] = ()) -> Iterator[PoolBuffer]:
    """Yield every piece of memory that can be reached from a pool, each once, in order of names.

    Tables of numbers and pointers, free lists and mappings, which have one axis, are no buffers.
    Objects of the classes ``apart`` are only referred to: their memory is their own.
    """
    seen: dict[int, PoolBuffer] = {}
    found = _reachable(pool, None, depth=0, inside={id(pool)}, apart=apart)
    # Two names may share memory: the plain one counts, not a place in a list of views.
    for path, tensor in sorted(found, key=lambda item: (bool(item[0].index), item[0].text)):
        if tensor.numel() == 0 or tensor.dim() < _ROW_AXES:
            continue
        start = tensor.data_ptr()
        known = seen.get(start)
        if known is None or span_bytes(tensor) > span_bytes(known.tensor):
            seen[start] = PoolBuffer(pool=pool, path=path, tensor=tensor)
    end = 0
    whole = []
    for start, buffer in sorted(seen.items()):
        if start >= end:
            whole.append(buffer)
            end = start + span_bytes(buffer.tensor)
    yield from sorted(whole, key=lambda buffer: _natural_sort_key(buffer.name))


def _reachable(
    value: Any,  # noqa: ANN401 - whatever a pool holds
    path: BufferPath | None,
    *,
    depth: int,
    inside: set[int],
    apart: tuple[type, ...],
) -> Iterator[tuple[BufferPath, torch.Tensor]]:
    if path is not None and isinstance(value, torch.Tensor):
        yield path, value
    elif path is not None and isinstance(value, list | tuple | dict):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(key, str | int):
                place = path.item(key)
                yield from _reachable(item, place, depth=depth, inside=inside, apart=apart)
    elif depth < _DEPTH_MAX and (depth == 0 or (_is_own(value) and not isinstance(value, apart))):
        for key, item in _attributes(value):
            place = path.member(key) if path else BufferPath.of(key)
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
