"""Deterministic bytes for pools: fill, poison, digest, compare.

The bytes come from PCG64's raw stream, whose values NumPy guarantees to be stable across releases,
seeded with the SHA-256 of a label: no two rows of any plane of any layer are alike.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

DIGEST_HEX_DIGITS = 16

_REMEMBERED_LABELS = 1024
_REMEMBERED_BYTES = 1 << 14


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBuffer:
    """The rows of one plane of one layer.

    Attributes:
        plane: their kind: ``kv``.
        label: ``KV.kv[2]``; seeds the content.
        layer: stage-local id of the layer.
        tensor: rows on dim 0, any device, any dtype.
        slots_per_row: slots that share a row (a page of index keys), otherwise 1.
    """

    pool: str
    plane: str
    label: str
    layer: int
    tensor: torch.Tensor
    slots_per_row: int

    def rows_of(self, slots: torch.Tensor) -> torch.Tensor:
        """Return the row numbers of ``slots``, whole rows in order: int64 on the host."""
        if self.slots_per_row == 1:
            return slots.cpu()
        return slots.cpu()[:: self.slots_per_row] // self.slots_per_row

    def row_num(self, slots: torch.Tensor) -> int:
        """Return the number of rows that ``slots``, whole rows in order, lie in."""
        return -(-slots.numel() // self.slots_per_row)


def pattern(label: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return pseudo-random bytes for ``label``: uint8 of ``shape`` on the host."""
    count = math.prod(shape)
    if count > _REMEMBERED_BYTES:
        return torch.from_numpy(_random_bytes(label, count)).reshape(shape)
    return torch.from_numpy(_remembered_bytes(label, count).copy()).reshape(shape)


def _random_bytes(label: str, count: int) -> npt.NDArray[np.uint8]:
    seed = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "little")
    words: npt.NDArray[np.uint64] = np.random.PCG64(seed).random_raw((count + 7) // 8)
    return words.view(np.uint8)[:count]


# What is written is compared later: the same bytes are asked for again.
_remembered_bytes = lru_cache(maxsize=_REMEMBERED_LABELS)(_random_bytes)


def row_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy of ``tensor`` on the host as uint8 ``(rows, bytes of a row)``."""
    host = tensor.detach().to("cpu", copy=True).contiguous()
    return host.reshape(host.shape[0], -1).view(torch.uint8)


def overwrite(tensor: torch.Tensor, content: torch.Tensor) -> None:
    """Give ``tensor`` the bytes of ``content``: uint8 ``(rows, bytes of a row)`` on the host."""
    tensor.copy_(content.contiguous().view(-1).view(tensor.dtype).reshape(tensor.shape))


def poison(buffers: Iterable[torch.Tensor], label: str) -> None:
    """Overwrite whole buffers with bytes that no scenario ever writes as content."""
    for number, tensor in enumerate(buffers):
        overwrite(tensor, pattern(f"{label}/{number}", (1, tensor.nbytes)))


def row_content(buffer: RowBuffer, slots: torch.Tensor, *, author: str) -> torch.Tensor:
    """Return what ``author`` writes for the rows of ``slots``: uint8 ``(rows, bytes of a row)``."""
    shape = (buffer.row_num(slots), buffer.tensor[0].nbytes)
    return pattern(f"{author}/{buffer.label}", shape)


def slots_of_rows(buffer: RowBuffer, rows: torch.Tensor) -> torch.Tensor:
    """Return every slot of the given rows, int64 on the host."""
    offsets = torch.arange(buffer.slots_per_row)
    return (rows.unsqueeze(1) * buffer.slots_per_row + offsets).flatten()


def digest(tensors: Iterable[torch.Tensor]) -> str:
    """Return the head of the SHA-256 over the bytes of ``tensors`` in order."""
    state = hashlib.sha256()
    for tensor in tensors:
        state.update(row_bytes(tensor.reshape(1, -1)).numpy().tobytes())
    return state.hexdigest()[:DIGEST_HEX_DIGITS]
