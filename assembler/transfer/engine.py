"""The one place where bytes cross between a host pool and a device pool."""

from typing import TYPE_CHECKING

import torch

from assembler.device.access import MemoryAccess, tensor_access
from assembler.device.base import Device
from assembler.errors import TransferError
from assembler.names import Direction, IoBackend
from assembler.transfer.direct import DirectRowMover
from assembler.transfer.kernel import KernelRowMover
from assembler.transfer.mover import RowMover
from assembler.transfer.rows import RowMap
from assembler.transfer.windows import RowWindow

if TYPE_CHECKING:
    from assembler.host_pools.base import HostKVCache

_MOVERS: dict[IoBackend, RowMover] = {
    IoBackend.KERNEL: KernelRowMover(),
    IoBackend.DIRECT: DirectRowMover(),
}


def move(
    *,
    direction: Direction,
    backend: IoBackend,
    host_pool: "HostKVCache",
    plane: str,
    layer: int,
    host: RowWindow,
    device: RowWindow,
    host_indices: torch.Tensor,
    device_indices: torch.Tensor,
) -> int:
    """Copy the rows of some slots of one plane and layer, and return the bytes moved.

    Args:
        direction: backup copies from the device window, load copies to it.
        backend: ``kernel`` copies by address, ``direct`` by tensor slices.
        host_pool: the pool that ``host`` belongs to; knows which rows a slot means.
        plane: the plane's name.
        layer: layer index in the pool, 0 first.
        host: rows of the host pool.
        device: rows of the device pool.
        host_indices: host slots, ``(slot_num,) int64``; where ``backend`` expects them.
        device_indices: device slots of the same length, in the same place.

    Raises:
        TransferError: index tensors of different lengths, of another dtype or in the wrong memory;
            slots that are not whole rows; a host buffer that ``kernel`` cannot reach.
        RuntimeError: torch's message, when ``direct`` finds rows of different shapes.

    Order: launched on the current stream; done only when that stream says so. With ``kernel`` the
    slots themselves are read on the stream: at launch only their number is checked, and on a GPU
    nothing more, because reading them would block the host.
    """
    subject = f"{type(host_pool).__name__} {plane} layer {layer}"
    accelerator, rows, mover = host_pool.device, host_pool.row_map, _MOVERS[backend]
    _check_indices(subject, host_indices, device_indices)
    row_num = rows.row_num(host_indices.numel())
    slots: tuple[MemoryAccess, ...] = (tensor_access(host_indices), tensor_access(device_indices))
    if backend is IoBackend.KERNEL:
        _check_reach(subject, accelerator, host, host_indices, device_indices)
        host, device = host.mapped_by(accelerator), device.mapped_by(accelerator)
    else:
        _check_on_host(subject, host_indices, device_indices)
        accelerator.host_access(label=f"{direction} {subject}: read slots", reads=slots, writes=())
        _check_rows(rows, host_indices, device_indices)
        slots = ()
    backup = direction is Direction.BACKUP
    src, dst = (device, host) if backup else (host, device)
    mover.check(subject=subject, src=src, dst=dst)

    def host_rows() -> torch.Tensor:
        return rows.host_rows(host_indices)

    def device_rows() -> torch.Tensor:
        return rows.device_rows(device_indices)

    src_rows, dst_rows = (device_rows, host_rows) if backup else (host_rows, device_rows)

    def operation() -> None:
        if backend is IoBackend.KERNEL:
            _check_rows(rows, host_indices, device_indices)
        mover.move_rows(src=src, dst=dst, src_rows=src_rows(), dst_rows=dst_rows())

    accelerator.launch(
        operation,
        label=f"{direction} {subject}",
        reads=(mover.access(window=src, numbers=src_rows), *slots),
        writes=(mover.access(window=dst, numbers=dst_rows),),
    )
    return row_num * host.row_bytes


def _check_indices(subject: str, host_indices: torch.Tensor, device_indices: torch.Tensor) -> None:
    if host_indices.numel() != device_indices.numel():
        raise TransferError(
            subject,
            "host and device slots must pair up",
            expected=f"{host_indices.numel()} device slots",
            got=device_indices.numel(),
        )
    for indices in (host_indices, device_indices):
        if indices.dtype != torch.int64:
            raise TransferError(
                subject, "slots must be int64", expected=torch.int64, got=indices.dtype
            )


def _check_reach(
    subject: str, accelerator: Device, host: RowWindow, *index_tensors: torch.Tensor
) -> None:
    """Check that device kernels can address what they are given."""
    if not accelerator.is_pinned(host.base):
        raise TransferError(
            subject, "kernel needs page-locked host memory", expected="pinned", got="pageable"
        )
    for indices in index_tensors:
        if indices.device != accelerator.torch_device:
            raise TransferError(
                subject,
                "kernel needs slots in device memory",
                expected=accelerator.torch_device,
                got=indices.device,
            )


def _check_on_host(subject: str, *index_tensors: torch.Tensor) -> None:
    for indices in index_tensors:
        if not indices.is_cpu:
            raise TransferError(
                subject, "direct needs slots in host memory", expected="cpu", got=indices.device
            )


def _check_rows(rows: RowMap, *index_tensors: torch.Tensor) -> None:
    """Check the slots that can be read without waiting for a device."""
    for indices in index_tensors:
        if indices.is_cpu:
            rows.check(indices)
