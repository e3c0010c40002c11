"""The ``kernel`` backend on a GPU: one launch for all layers and planes that have equal rows."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import ClassVar

import torch
from typing_extensions import override

from assembler.device.base import Device
from assembler.device.cuda import CudaDevice
from assembler.transfer.cuda.row_kernel import CopyPlan, CopyShape, launch_copy, make_plan
from assembler.transfer.kernel import KernelRowMover
from assembler.transfer.mover import RowCopy, grouped_copies
from assembler.transfer.windows import access_bytes


class CudaKernelRowMover(KernelRowMover):
    """Rows by address, all windows of an operation in as few launches as their widths allow.

    A row outside of its buffer is not moved; it is reported to the device, which raises when the
    host learns that the work is done.
    """

    gathers: ClassVar[bool] = True

    @override
    def run(self, accelerator: Device, copies: Sequence[RowCopy]) -> None:
        assert isinstance(accelerator, CudaDevice)
        with torch.cuda.device(accelerator.torch_device):
            for group in grouped_copies(copies, _group_key):
                launch_copy(
                    plan_of(group, accelerator.row_report_word),
                    src_rows=group[0].src_rows().contiguous(),
                    dst_rows=group[0].dst_rows().contiguous(),
                    programs=accelerator.copy_programs,
                )


def plan_of(copies: Sequence[RowCopy], report: torch.Tensor) -> CopyPlan:
    """Return the plan of copies that move the same rows with the same strides."""
    first = copies[0]
    addresses = tuple((copy.src.address, copy.dst.address) for copy in copies)
    strides, row_bytes = (first.src.stride_bytes, first.dst.stride_bytes), first.host.row_bytes
    shape = CopyShape(
        strides=strides,
        row_nums=(
            min(copy.src.row_num for copy in copies),
            min(copy.dst.row_num for copy in copies),
        ),
        row_bytes=row_bytes,
        vector_bytes=access_bytes(row_bytes, *strides, *chain.from_iterable(addresses)),
        windows_inside=first.host.stride_bytes > row_bytes,
    )
    return _kept_plan(shape, addresses, report)


def _group_key(copy: RowCopy) -> tuple[object, ...]:
    slots = copy.slots
    indices = (id(slots.host_indices), id(slots.device_indices), slots.row_map)
    return (*indices, copy.host.stride_bytes, copy.device.stride_bytes, copy.host.row_bytes)


@lru_cache(maxsize=4096)
def _kept_plan(
    shape: CopyShape, addresses: tuple[tuple[int, int], ...], report: torch.Tensor
) -> CopyPlan:
    # A plan holds no memory but its own: after a pool has gone, the same addresses are those of
    # another pool. Its upload waits, so that later calls can use it on other streams.
    return make_plan(shape, addresses, report)
