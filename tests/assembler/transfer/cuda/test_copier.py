"""Which launches a group of rows becomes, on a GPU that takes them and does nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typing_extensions import override

from assembler.device.cuda import CudaDevice
from assembler.errors import OutOfDeviceMemoryError
from assembler.names import Direction
from assembler.transfer.cuda import copier
from assembler.transfer.cuda.copier import GroupCopier, PlannedGroup
from assembler.transfer.cuda.groups import RowGroup, RowShape
from assembler.transfer.cuda.row_kernel import RowKernels
from assembler.transfer.cuda.ways import WayLimits
from assembler.transfer.operation_slots import OperationSlots
from assembler.transfer.rows import RowMap

_NEVER = 1 << 62


class PretendedGpu(CudaDevice):
    """Has memory of the host only, and one stream."""

    def __init__(self):
        self.torch_device = torch.device("cpu")
        self.ordinal = 0
        self.copy_programs = 4
        self.staging_bytes = 0
        self.row_report_word = torch.zeros(1, dtype=torch.int64)
        self.unknown = False

    @override
    def stream_handle(self):
        return 9

    @override
    def to_device(self, indices):
        return indices.clone()

    @override
    def known_slots(self, indices):
        return None if self.unknown else indices


class PretendedKernel:
    """Takes launches."""

    def __init__(self):
        self.launches = []
        self.slots = []

    def launch(self, *numbers, blocks, stream):
        self.slots.append(numbers[1:3])
        self.launches.append((numbers[3], blocks, stream))


@pytest.fixture
def gpu():
    return PretendedGpu()


@pytest.fixture
def kernel(monkeypatch):
    made = PretendedKernel()
    monkeypatch.setattr(copier, "bind_context", lambda ordinal: None)
    monkeypatch.setattr(
        copier, "row_kernels", lambda ordinal: RowKernels(bulk=made, vectors={8: made, 16: made})
    )
    return made


class Batches(list):
    """Takes batches of blocks."""

    def __call__(self, blocks, *, stream, is_first):
        self.append((blocks.sizes.tolist(), stream, is_first))


def group_of(row_bytes, layers=1):
    addresses = np.arange(layers, dtype=np.int64) * row_bytes * 100
    return RowGroup(
        shape=RowShape(
            row_map=RowMap(),
            row_bytes=row_bytes,
            strides=(row_bytes, row_bytes),
            row_nums=(100, 100),
        ),
        host=addresses,
        device=addresses,
    )


def copy(gpu, groups, batches, *, engine_bytes, slots=None, has_kernels=True):
    moved = GroupCopier(
        batches,
        has_kernels=has_kernels,
        limits=WayLimits(engine_bytes=engine_bytes, block_bytes=_NEVER, staged_bytes=_NEVER),
    )
    slots = slots or OperationSlots(
        gpu, host_indices=torch.tensor([5, 6, 20]), device_indices=torch.tensor([1, 2, 40])
    )
    planned = tuple(PlannedGroup(group, Direction.LOAD) for group in groups)
    moved.copy(gpu, planned, slots)
    return slots


def test_long_runs_go_to_the_copy_engine_and_short_ones_to_the_kernel(gpu, kernel):
    batches = Batches()

    copy(gpu, [group_of(1600, layers=2)], batches, engine_bytes=2400)
    # The blocks of one layer are submitted before those of the others are computed.
    submitted = [([3200, 1600], 9, True), ([3200, 1600], 9, False)]
    assert (batches, kernel.launches) == (submitted, [])

    copy(gpu, [group_of(1600, layers=2)], batches, engine_bytes=2401)
    # 15 rows fit into a piece: six rows of two layers need one block.
    assert (len(batches), kernel.launches) == (2, [(3, 1, 9)])


def test_a_group_with_no_more_runs_follows_long_ones_and_another_does_not(gpu, kernel):
    batches = Batches()

    copy(gpu, [group_of(1600), group_of(80)], batches, engine_bytes=2400)
    assert (batches, kernel.launches) == ([([3200, 1600, 160, 80], 9, True)], [])

    copy(gpu, [group_of(1600), group_of(80, layers=2)], batches, engine_bytes=2400)
    assert batches[1:] == [([3200, 1600], 9, True)]
    assert kernel.launches == [(3, 1, 9)]


def test_only_the_first_batch_of_an_operation_begins_short(gpu, kernel):
    batches = Batches()

    slots = copy(gpu, [group_of(1600)], batches, engine_bytes=0)
    copy(gpu, [group_of(1600)], batches, engine_bytes=0, slots=slots)

    assert [is_first for _, _, is_first in batches] == [True, False]


def test_without_batched_copies_all_rows_go_to_the_kernel(gpu, kernel):
    copy(gpu, [group_of(1600)], None, engine_bytes=0)

    assert kernel.launches == [(3, 1, 9)]


@pytest.mark.parametrize(("row_bytes", "has_kernels"), [(1600, False), (1604, True)])
def test_rows_that_no_kernel_moves_go_to_the_copy_engine(gpu, kernel, row_bytes, has_kernels):
    batches = Batches()

    copy(gpu, [group_of(row_bytes)], batches, engine_bytes=_NEVER, has_kernels=has_kernels)

    assert batches == [([2 * row_bytes, row_bytes], 9, True)]
    assert kernel.launches == []


def test_slots_that_the_host_does_not_know_go_to_the_kernel(gpu, kernel):
    gpu.unknown = True
    batches = Batches()

    copy(gpu, [group_of(1600)], batches, engine_bytes=0)

    assert (batches, kernel.launches) == ([], [(3, 1, 9)])


@pytest.mark.parametrize(("host", "device"), [(100, 40), (-1, 40), (20, 100), (20, -1)])
def test_rows_outside_go_to_the_kernel_which_reports_them(gpu, kernel, host, device):
    batches = Batches()
    slots = OperationSlots(
        gpu, host_indices=torch.tensor([5, host]), device_indices=torch.tensor([1, device])
    )

    copy(gpu, [group_of(1600)], batches, engine_bytes=0, slots=slots)

    assert (batches, kernel.launches) == ([], [(2, 1, 9)])


class FullGpu(PretendedGpu):
    """Has no room for the way through device memory."""

    def __init__(self):
        super().__init__()
        self.staging_bytes = 1 << 20


def refuse(device):
    raise OutOfDeviceMemoryError("staging", "must fit", expected="1 MB", got="none")


@pytest.mark.parametrize(
    ("direction", "rows"), [(Direction.BACKUP, [3, 9]), (Direction.LOAD, [12])]
)
def test_the_first_rows_of_a_large_backup_are_launched_before_the_host_looks_through_all(
    kernel, monkeypatch, direction, rows
):
    monkeypatch.setattr(torch.cuda, "Event", lambda: SimpleNamespace(record=lambda stream: None))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(copier, "StagingRing", refuse)
    limits = WayLimits(engine_bytes=_NEVER, block_bytes=0, staged_bytes=0)
    first = torch.arange(12)
    gpu = FullGpu()
    slots = OperationSlots(gpu, host_indices=first, device_indices=first + 20)

    GroupCopier(Batches(), has_kernels=True, limits=limits).copy(
        gpu, (PlannedGroup(group_of(1600), direction),), slots
    )

    assert [launch[0] for launch in kernel.launches] == rows
    # Slots have eight bytes.
    starts = [8 * sum(rows[:number]) for number in range(len(rows))]
    for addresses in zip(*kernel.slots, strict=True):
        assert [address - addresses[0] for address in addresses] == starts


@pytest.mark.parametrize(
    ("row_bytes", "direction", "is_bulk"),
    [
        (1152, Direction.LOAD, True),
        (1152, Direction.BACKUP, False),
        # Rows of one head, and rows that begin in the middle of a line of 128 bytes.
        (256, Direction.LOAD, False),
        (1312, Direction.LOAD, False),
    ],
)
def test_rows_that_lie_apart_come_by_bulk_copies_where_these_are_faster(
    gpu, monkeypatch, row_bytes, direction, is_bulk
):
    kernels = {name: PretendedKernel() for name in ("bulk", "vectors")}
    monkeypatch.setattr(copier, "bind_context", lambda ordinal: None)
    monkeypatch.setattr(
        copier,
        "row_kernels",
        lambda ordinal: RowKernels(
            bulk=kernels["bulk"], vectors={8: kernels["vectors"], 16: kernels["vectors"]}
        ),
    )
    first = np.arange(2, dtype=np.int64) * row_bytes
    apart = RowGroup(
        shape=RowShape(
            row_map=RowMap(),
            row_bytes=row_bytes,
            strides=(2 * row_bytes, row_bytes),
            row_nums=(100, 100),
        ),
        host=first,
        device=first * 1000,
    )
    slots = OperationSlots(
        gpu, host_indices=torch.tensor([5, 6]), device_indices=torch.tensor([1, 2])
    )
    limits = WayLimits(engine_bytes=_NEVER, block_bytes=_NEVER, staged_bytes=_NEVER)

    GroupCopier(Batches(), has_kernels=True, limits=limits).copy(
        gpu, (PlannedGroup(apart, direction),), slots
    )

    assert [name for name, kernel in kernels.items() if kernel.launches] == [
        "bulk" if is_bulk else "vectors"
    ]
