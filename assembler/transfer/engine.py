"""The one function through which bytes cross between a host pool and a device pool."""

from functools import partial

import torch

from assembler.device.base import Device
from assembler.errors import TransferError
from assembler.names import Direction, IoBackend
from assembler.transfer.direct import DirectRowMover
from assembler.transfer.kernel import KernelRowMover
from assembler.transfer.layer_rows import LayerRows, RowSet
from assembler.transfer.mover import RowCopy, RowMover, SetMover
from assembler.transfer.operation_slots import OperationSlots
from assembler.transfer.slot_pairs import SlotPairs

_MOVERS: dict[IoBackend, RowMover] = {
    IoBackend.KERNEL: KernelRowMover(),
    IoBackend.DIRECT: DirectRowMover(),
}


class Submission:
    """The copies of one operation of a host pool, with one backend, on the current stream.

    Where the device has a faster way, :meth:`launch_ahead` launches all copies of several planes
    and layers, and :func:`moved_ahead` says when they count as moved. Elsewhere each call of
    :func:`move` launches its copy.
    """

    def __init__(self, accelerator: Device, backend: IoBackend) -> None:
        self.accelerator = accelerator
        self.backend = backend
        self._set_mover = _set_mover(accelerator, backend)
        self._slots: OperationSlots | None = None

    @property
    def launches_ahead(self) -> bool:
        """True where :meth:`launch_ahead` can be called; elsewhere :func:`move` is."""
        return self._set_mover is not None

    def launch_ahead(
        self,
        row_set: RowSet,
        indices: tuple[torch.Tensor, torch.Tensor],
        *,
        direction: Direction,
    ) -> None:
        """Launch the copies of a set; only where :attr:`launches_ahead` is true.

        ``indices`` are host and device slots, both ``(slot_num,) int64`` in pairs, the same for all
        calls of a submission; they keep their content until the last copy is launched.

        Raises:
            TransferError: as :func:`move`.
            RuntimeError: likewise.
        """
        assert self._set_mover is not None
        first = row_set.rows[0]
        host_indices, device_indices = indices
        if self._slots is None:
            _check_indices(first.subject, host_indices, device_indices)
            self._slots = OperationSlots(
                self.accelerator, host_indices=host_indices, device_indices=device_indices
            )
        first.row_map.row_num(host_indices.numel())
        # Not as a launch of the device: only a GPU takes sets, which finds no races.
        self._set_mover.copy_set(self.accelerator, row_set, self._slots, direction)
        stream = self.accelerator.current_stream()
        stream.hold(host_indices)
        stream.hold(device_indices)

    def launch(
        self,
        layer_rows: LayerRows,
        host_indices: torch.Tensor,
        device_indices: torch.Tensor,
        *,
        direction: Direction,
    ) -> None:
        """Launch the copy of one plane and layer."""
        slots = SlotPairs(
            subject=layer_rows.subject,
            row_map=layer_rows.row_map,
            host_indices=host_indices,
            device_indices=device_indices,
        )
        accelerator, mover = self.accelerator, _MOVERS[self.backend]
        label = f"{direction} {slots.subject}"
        slot_reads = mover.admit(accelerator, slots, host=layer_rows.host, label=label)
        copy = RowCopy(
            direction=direction,
            slots=slots,
            host=mover.addressed(accelerator, layer_rows.host),
            device=mover.addressed(accelerator, layer_rows.device),
        )
        mover.check(subject=slots.subject, src=copy.src, dst=copy.dst)
        accelerator.launch(
            partial(mover.run, copy),
            label=label,
            reads=(mover.access(window=copy.src, numbers=copy.src_rows), *slot_reads),
            writes=(mover.access(window=copy.dst, numbers=copy.dst_rows),),
        )


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

    Order: launched on the current stream. With ``kernel`` the slots are read on the stream too: at
    launch only their number is checked, because reading them would block the host.
    """
    _check_indices(layer_rows.subject, host_indices, device_indices)
    size = moved_bytes(layer_rows, host_indices.numel())
    submission.launch(layer_rows, host_indices, device_indices, direction=direction)
    return size


def moved_ahead(
    submission: Submission,
    *,
    direction: Direction,
    rows: tuple[LayerRows, ...],
    host_indices: torch.Tensor,
    device_indices: torch.Tensor,
) -> None:
    """Count rows as moved that :meth:`Submission.launch_ahead` has launched.

    It does nothing: a recorder watches it, and :func:`move`, for what is moved, in which order.
    Both index tensors are those of the launch, ``(slot_num,) int64``.
    """


def moved_bytes(layer_rows: LayerRows, slot_num: int) -> int:
    """Return the bytes that a move of so many slots has in one plane and layer.

    Raises:
        TransferError: the slots are not whole rows.
    """
    # The host's row width decides the bytes moved, also where the device's rows are wider.
    return layer_rows.row_map.row_num(slot_num) * layer_rows.host.row_bytes


def _set_mover(accelerator: Device, backend: IoBackend) -> SetMover | None:
    if not accelerator.has_fast_copies:
        return None
    from assembler.transfer.cuda.movers import cuda_movers

    return cuda_movers().get(backend)


def _check_indices(subject: str, host_indices: torch.Tensor, device_indices: torch.Tensor) -> None:
    if host_indices.numel() != device_indices.numel():
        rule = "host and device slots must pair up"
        expected, got = f"{host_indices.numel()} device slots", device_indices.numel()
        raise TransferError(subject, rule, expected=expected, got=got)
    for indices in (host_indices, device_indices):
        if indices.dtype != torch.int64:
            rule = "slots must be int64"
            raise TransferError(subject, rule, expected=torch.int64, got=indices.dtype)
