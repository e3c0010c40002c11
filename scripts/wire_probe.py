"""Measure what PCIe gives to copy engines and to kernels, as ratios to one large pinned copy.

Run it in a checkout, on a machine with a GPU: ``python -m scripts.wire_probe``. All work is queued
on the GPU before it begins, so that the host's time is not in it. It is the evidence for the ways
that ``assembler/transfer/cuda/ways.py`` chooses.
"""

from collections.abc import Callable, Iterator
from statistics import median

import numpy as np
import torch

from assembler.device import get_device
from assembler.device.cuda import CudaDevice
from assembler.transfer.blocks import Blocks
from assembler.transfer.cuda.batch import find_batched_copy
from assembler.transfer.cuda.row_kernel import CopyShape, RowKernels, row_kernels

BUFFER_BYTES = 3 << 29
MOVED_BYTES = 200 << 20
LATENT_LAYERS = 61
LAYERS_AT_ONCE = 4
PAGE = 64
DIRECTIONS = ("backup", "load")


class Wire:
    """Two buffers, one on each side, and a pinned copy between them for comparison."""

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        self.host = device.host_empty((BUFFER_BYTES,), torch.uint8, pin_memory=True)
        self.inside = device.empty((BUFFER_BYTES,), torch.uint8)
        self.stream = torch.cuda.Stream(priority=-1)
        self.ceilings = {name: MOVED_BYTES / self.seconds(self._copy(name)) for name in DIRECTIONS}

    def _copy(self, direction: str) -> Callable[[], object]:
        sides = (self.host[:MOVED_BYTES], self.inside[:MOVED_BYTES])
        dst, src = sides if direction == "backup" else sides[::-1]
        return lambda: dst.copy_(src, non_blocking=True)

    def seconds(self, work: Callable[[], object]) -> float:
        """Return the median seconds of work that waits on the GPU for 20 ms first."""
        found = []
        for _ in range(5):
            torch.cuda.synchronize()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            with torch.cuda.stream(self.stream):
                torch.cuda._sleep(40_000_000)  # noqa: SLF001 - torch has no public one
                begin.record()
                work()
                end.record()
            end.synchronize()
            found.append(float(begin.elapsed_time(end)) / 1e3)
        return float(median(found[1:]))

    def engine_ratio(self, run_bytes: int, direction: str, *, is_sorted: bool) -> float:
        """Return the ratio of copy engines that move runs to and from half of the buffers."""
        run_num = min(MOVED_BYTES // run_bytes, 4000)
        draw = np.random.default_rng(0)
        host, inside = (draw.permutation(2 * run_num)[:run_num] for _ in range(2))
        if is_sorted:
            host.sort()
        sides = (
            host.astype(np.int64) * run_bytes + self.host.data_ptr(),
            inside.astype(np.int64) * run_bytes + self.inside.data_ptr(),
        )
        dst, src = sides if direction == "backup" else sides[::-1]
        blocks = Blocks(src=src, dst=dst, sizes=np.full(run_num, run_bytes, dtype=np.int64))
        copy = find_batched_copy()
        assert copy is not None
        seconds = self.seconds(lambda: copy(blocks, stream=self.stream.cuda_stream, is_first=False))
        return run_num * run_bytes / seconds / self.ceilings[direction]

    def kernel_ratio(
        self, kernels: RowKernels, row_bytes: int, direction: str, *, layers: int, uses_bulk: bool
    ) -> float:
        """Return the ratio of a kernel that moves random pages in place.

        With one layer, pages of host memory are contiguous; with more, a row has all layers.
        """
        slot_num = MOVED_BYTES // (row_bytes * layers) // PAGE * PAGE
        pages = BUFFER_BYTES // (row_bytes * layers) // PAGE
        draw = torch.Generator().manual_seed(0)
        sides = [
            (torch.randperm(pages, generator=draw)[: slot_num // PAGE, None] * PAGE)
            .add(torch.arange(PAGE))
            .view(-1)
            .to(self.device.torch_device)
            for _ in range(2)
        ]
        backs_up = direction == "backup"
        strides = (row_bytes * layers, row_bytes)
        plans = []
        for first in range(0, layers, LAYERS_AT_ONCE):
            windows = [
                (
                    self.host.data_ptr() + layer * row_bytes,
                    self.inside.data_ptr() + layer * pages * PAGE * row_bytes,
                )
                for layer in range(first, min(first + LAYERS_AT_ONCE, layers))
            ]
            shape = CopyShape(
                strides=strides[::-1] if backs_up else strides,
                row_nums=(pages * PAGE, pages * PAGE),
                slots_per_row=(1, 1),
                row_bytes=row_bytes,
                vector_bytes=16,
                windows_inside=layers > 1,
            )
            addresses = tuple(pair[::-1] if backs_up else pair for pair in windows)
            report = self.device.row_report_word
            plans.append(kernels.plan(shape, addresses, report, uses_bulk=uses_bulk))
        src, dst = sides[::-1] if backs_up else sides

        def launch() -> None:
            for plan in plans:
                plan.launch(
                    src_slots=src.data_ptr(),
                    dst_slots=dst.data_ptr(),
                    pair_num=slot_num,
                    programs=plan.most_blocks,
                    stream=self.stream.cuda_stream,
                )

        return slot_num * row_bytes * layers / self.seconds(launch) / self.ceilings[direction]


def lines(wire: Wire) -> Iterator[str]:
    """Yield the table."""
    speeds = ", ".join(f"{name} {speed / 1e9:.1f}" for name, speed in wire.ceilings.items())
    yield f"{torch.cuda.get_device_name()}; pinned copy in GB/s: {speeds}"
    yield "ratios                                    backup   load"
    for run_bytes in (8448, 16384, 41984, 73728, 131072, 262144, 1 << 20):
        for order, is_sorted in (("random", False), ("in order", True)):
            ratios = [wire.engine_ratio(run_bytes, one, is_sorted=is_sorted) for one in DIRECTIONS]
            title = f"copy engine, runs of {run_bytes}, {order}"
            yield f"{title:<41} {ratios[0]:>7.3f} {ratios[1]:>6.3f}"
    kernels = row_kernels(wire.device.ordinal)
    for row_bytes in (656, 1152, 2048):
        for layers in (1, LATENT_LAYERS):
            for name, uses_bulk in (("bulk", True), ("registers", False)):
                ratios = [
                    wire.kernel_ratio(kernels, row_bytes, one, layers=layers, uses_bulk=uses_bulk)
                    for one in DIRECTIONS
                ]
                title = f"kernel, {name}, rows of {row_bytes}, {layers} in a row"
                yield f"{title:<41} {ratios[0]:>7.3f} {ratios[1]:>6.3f}"


if __name__ == "__main__":
    gpu = get_device("cuda")
    assert isinstance(gpu, CudaDevice)
    for line in lines(Wire(gpu)):
        print(line, flush=True)
