"""Memory map of a trace: buffers and rows of every pool, host beside device."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from traces.schema.model import PoolSide, TensorRecord, Trace

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferBar:
    """Buffers of one name in one pool; a list of them counts as one.

    Attributes:
        name: ``device.KV k_buffer``.
        bytes: of all of them; buffers that share storage with another one count nothing.
        number: how many buffers there are.
        shape: of the first.
    """

    name: str
    side: PoolSide
    bytes: int
    number: int
    shape: tuple[int, ...]
    dtype: str
    layout: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPair:
    """Rows of one plane on both sides; 0 bytes where a side has none."""

    plane: str
    device_bytes: int
    host_bytes: int

    @property
    def differs(self) -> bool:
        """True if both sides have rows, of different sizes."""
        return bool(self.device_bytes and self.host_bytes) and self.device_bytes != self.host_bytes

    @property
    def is_alone(self) -> bool:
        """True if only the device has rows: nothing mirrors them."""
        return bool(self.device_bytes) and not self.host_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMap:
    """Buffers and rows of one pool."""

    pool: str
    buffers: tuple[BufferBar, ...]
    rows: tuple[RowPair, ...]

    @property
    def widest(self) -> int:
        """Bytes of the widest row; at least 1."""
        return max((max(row.device_bytes, row.host_bytes) for row in self.rows), default=0) or 1


def memory_map(trace: Trace) -> tuple[PoolMap, ...]:
    """Return the pools of a trace in the order in which their first buffer was made."""
    pools = dict.fromkeys(tensor.pool for tensor in trace.tensors)
    return tuple(
        PoolMap(pool=pool, buffers=_buffers(of_pool), rows=_rows(of_pool))
        for pool in pools
        for of_pool in [[tensor for tensor in trace.tensors if tensor.pool == pool]]
    )


def bytes_text(number: int) -> str:
    """Return ``1.5 MiB``; numbers below 1024 are exact."""
    size, unit = float(number), 0
    while size >= _STEP and unit < len(_UNITS) - 1:
        size, unit = size / _STEP, unit + 1
    return f"{number} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def _buffers(tensors: Sequence[TensorRecord]) -> tuple[BufferBar, ...]:
    groups: dict[tuple[str, str], list[TensorRecord]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.owner, tensor.attribute), []).append(tensor)
    return tuple(
        BufferBar(
            name=f"{owner} {attribute}",
            side=group[0].side,
            bytes=sum(tensor.bytes for tensor in group if not tensor.aliases),
            number=len(group),
            shape=group[0].shape,
            dtype=group[0].dtype,
            layout=group[0].layout,
        )
        for (owner, attribute), group in groups.items()
    )


def _rows(tensors: Iterable[TensorRecord]) -> tuple[RowPair, ...]:
    sizes: dict[str, dict[PoolSide, int]] = {}
    for tensor in tensors:
        for plane in tensor.planes:
            sizes.setdefault(plane, {}).setdefault(tensor.side, tensor.row_bytes)
    return tuple(
        RowPair(plane=plane, device_bytes=of.get("device", 0), host_bytes=of.get("host", 0))
        for plane, of in sizes.items()
    )
