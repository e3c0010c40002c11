"""The one function through which bytes cross between a host pool and a device pool."""

from dataclasses import dataclass
from functools import partial

import torch

from assembler.device.base import Device
from assembler.errors import TransferError
from assembler.names import Direction, IoBackend
from assembler.transfer.direct import DirectRowMover
from assembler.transfer.kernel import KernelRowMover
from assembler.transfer.mover import RowMover, SlotPairs
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


def move(
    accelerator: Device,
    *,
    direction: Direction,
    backend: IoBackend,
    layer_rows: LayerRows,
    host_indices: torch.Tensor,
    device_indices: torch.Tensor,
) -> int:
    """Copy the rows of some slots of one plane and layer, and return the bytes moved.

    Both index tensors are ``(slot_num,) int64``, in pairs, where ``backend`` expects them.

    Raises:
        TransferError: index tensors that do not pair, or lie in the wrong memory; slots that are
            not whole rows; a host buffer that ``kernel`` cannot reach.
        RuntimeError: torch's message, when ``direct`` finds rows of different shapes.

    Order: launched on the current stream. With ``kernel`` the slots are read on the stream too: at
    launch only their number is checked, because reading them would block the host.
    """
    subject = f"{type(layer_rows.owner).__name__} {layer_rows.plane} layer {layer_rows.layer}"
    row_map = layer_rows.row_map
    slots = SlotPairs(
        subject=subject, row_map=row_map, host_indices=host_indices, device_indices=device_indices
    )
    _check_indices(slots)
    row_num = row_map.row_num(host_indices.numel())
    mover, label = _MOVERS[backend], f"{direction} {subject}"
    slot_reads = mover.admit(accelerator, slots, host=layer_rows.host, label=label)
    host = mover.addressed(accelerator, layer_rows.host)
    device = mover.addressed(accelerator, layer_rows.device)
    sides = (
        (device, partial(row_map.device_rows, device_indices)),
        (host, partial(row_map.host_rows, host_indices)),
    )
    (src, src_rows), (dst, dst_rows) = sides if direction is Direction.BACKUP else sides[::-1]
    mover.check(subject=subject, src=src, dst=dst)

    def operation() -> None:
        # Row numbers are computed here and not at launch: until the stream gets here, earlier work
        # on it may still be writing the slots, and reading them from the host would block.
        slots.check()
        mover.move_rows(src=src, dst=dst, src_rows=src_rows(), dst_rows=dst_rows())

    accelerator.launch(
        operation,
        label=label,
        reads=(mover.access(window=src, numbers=src_rows), *slot_reads),
        writes=(mover.access(window=dst, numbers=dst_rows),),
    )
    # The host's row width decides the bytes moved, also where the device's rows are wider.
    return row_num * host.row_bytes


def _check_indices(slots: SlotPairs) -> None:
    if slots.host_indices.numel() != slots.device_indices.numel():
        rule = "host and device slots must pair up"
        expected, got = f"{slots.host_indices.numel()} device slots", slots.device_indices.numel()
        raise TransferError(slots.subject, rule, expected=expected, got=got)
    for indices in (slots.host_indices, slots.device_indices):
        if indices.dtype != torch.int64:
            rule = "slots must be int64"
            raise TransferError(slots.subject, rule, expected=torch.int64, got=indices.dtype)
