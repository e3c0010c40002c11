"""The one function through which bytes cross between a host pool and a device pool."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from assembler.device.access import MemoryAccess
from assembler.device.base import Device
from assembler.errors import TransferError
from assembler.names import Direction, IoBackend
from assembler.transfer.direct import DirectRowMover
from assembler.transfer.kernel import KernelRowMover
from assembler.transfer.mover import RowCopy, RowMover, SlotPairs
from assembler.transfer.rows import RowMap
from assembler.transfer.windows import RowWindow

_MOVERS: dict[IoBackend, RowMover] = {
    IoBackend.KERNEL: KernelRowMover(),
    IoBackend.DIRECT: DirectRowMover(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRows:
    """Rows of one plane in one layer, in the host pool and in the device pool.

    Attributes:
        owner: the host pool; its class names the transfer.
        plane: the plane's name.
        layer: layer index in the pool, 0 first.
        row_map: which rows a slot means.
        host: rows of the host pool.
        device: rows of the device pool.
    """

    owner: object
    plane: str
    layer: int
    row_map: RowMap
    host: RowWindow
    device: RowWindow


# Copies of the first launch that gathers. Each further one gathers twice as many, so that a GPU
# works while the host prepares the rest.
_FIRST_GATHERED = 4


class Submission:
    """The copies of one operation of a host pool, with one backend, on the current stream.

    Where the backend gathers copies, some are launched together, the last when the submission ends.
    Elsewhere each is launched by the call of :func:`move` that adds it.
    """

    def __init__(self, accelerator: Device, backend: IoBackend) -> None:
        self.accelerator = accelerator
        self.backend = backend
        self.mover = _mover(accelerator, backend)
        self._most = _FIRST_GATHERED if self.mover.gathers else 1
        self._ahead: set[tuple[str, int]] = set()
        self._copies: list[RowCopy] = []
        self._reads: list[MemoryAccess] = []
        self._writes: list[MemoryAccess] = []

    def _add(self, layer_rows: LayerRows, slots: SlotPairs, *, direction: Direction) -> None:
        accelerator, mover = self.accelerator, self.mover
        label = f"{direction} {slots.subject}"
        slot_reads = mover.admit(accelerator, slots, host=layer_rows.host, label=label)
        copy = RowCopy(
            direction=direction,
            slots=slots,
            host=mover.addressed(accelerator, layer_rows.host),
            device=mover.addressed(accelerator, layer_rows.device),
        )
        mover.check(subject=slots.subject, src=copy.src, dst=copy.dst)
        self._copies.append(copy)
        self._reads.append(mover.access(window=copy.src, numbers=copy.src_rows))
        self._reads.extend(slot_reads)
        self._writes.append(mover.access(window=copy.dst, numbers=copy.dst_rows))
        if len(self._copies) == self._most:
            self.launch(label)
            self._most *= 2 if mover.gathers else 1

    def add_ahead(
        self,
        layer_rows: LayerRows,
        indices: tuple[torch.Tensor, torch.Tensor],
        *,
        direction: Direction,
    ) -> None:
        """Add a copy for which :func:`move` will be called later; then it adds none.

        ``indices`` are host and device slots.
        """
        self._add(layer_rows, slots_of(layer_rows, *indices), direction=direction)
        self._ahead.add((layer_rows.plane, layer_rows.layer))

    def require(self, layer_rows: LayerRows, slots: SlotPairs, *, direction: Direction) -> None:
        """Add a copy unless it was added ahead."""
        key = (layer_rows.plane, layer_rows.layer)
        if key in self._ahead:
            self._ahead.remove(key)
        else:
            self._add(layer_rows, slots, direction=direction)

    def launch(self, label: str) -> None:
        """Launch the copies that were added since the last launch."""
        if not self._copies:
            return
        self.accelerator.launch(
            partial(self.mover.run, self.accelerator, tuple(self._copies)),
            label=label,
            reads=tuple(self._reads),
            writes=tuple(self._writes),
        )
        for taken in (self._copies, self._reads, self._writes):
            taken.clear()


@contextmanager
def open_submission(accelerator: Device, *, backend: IoBackend, label: str) -> Iterator[Submission]:
    """Yield a submission, and launch what is left in it; after an error too, as without gathering.

    ``label`` names the launch of gathered copies.
    """
    opened = Submission(accelerator, backend)
    try:
        yield opened
    finally:
        opened.launch(label)


def move(
    submission: Submission,
    *,
    direction: Direction,
    layer_rows: LayerRows,
    host_indices: torch.Tensor,
    device_indices: torch.Tensor,
) -> int:
    """Copy the rows of some slots of one plane and layer, and return the bytes moved.

    Both index tensors are ``(slot_num,) int64``, in pairs, where the submission's backend expects
    them.

    Raises:
        TransferError: index tensors that do not pair, or lie in the wrong memory; slots that are
            not whole rows; a host buffer that ``kernel`` cannot reach.
        RuntimeError: torch's message, when ``direct`` finds rows of different shapes.

    Order: launched on the current stream, at the latest when the submission ends. With ``kernel``
    the slots are read on the stream too: at launch only their number is checked, because reading
    them would block the host.
    """
    slots = slots_of(layer_rows, host_indices, device_indices)
    row_num = layer_rows.row_map.row_num(host_indices.numel())
    submission.require(layer_rows, slots, direction=direction)
    # The host's row width decides the bytes moved, also where the device's rows are wider.
    return row_num * layer_rows.host.row_bytes


def slots_of(
    layer_rows: LayerRows, host_indices: torch.Tensor, device_indices: torch.Tensor
) -> SlotPairs:
    """Return the slots of a copy; raise TransferError for index tensors that do not pair."""
    slots = SlotPairs(
        subject=f"{type(layer_rows.owner).__name__} {layer_rows.plane} layer {layer_rows.layer}",
        row_map=layer_rows.row_map,
        host_indices=host_indices,
        device_indices=device_indices,
    )
    _check_indices(slots)
    return slots


def _mover(accelerator: Device, backend: IoBackend) -> RowMover:
    if accelerator.has_fast_copies:
        from assembler.transfer.cuda.movers import cuda_movers

        return cuda_movers().get(backend, _MOVERS[backend])
    return _MOVERS[backend]


def _check_indices(slots: SlotPairs) -> None:
    if slots.host_indices.numel() != slots.device_indices.numel():
        rule = "host and device slots must pair up"
        expected, got = f"{slots.host_indices.numel()} device slots", slots.device_indices.numel()
        raise TransferError(slots.subject, rule, expected=expected, got=got)
    for indices in (slots.host_indices, slots.device_indices):
        if indices.dtype != torch.int64:
            rule = "slots must be int64"
            raise TransferError(slots.subject, rule, expected=torch.int64, got=indices.dtype)
