import numpy as np
import pytest
import torch

from assembler.device import get_device
from assembler.errors import TransferError
from assembler.names import Direction
from assembler.transfer.cuda.copier import PlannedGroup, load_blocks
from assembler.transfer.cuda.direct import check_rows
from assembler.transfer.cuda.groups import RowGroup, RowShape, grouped, split_where_rows_end
from assembler.transfer.cuda.staging import can_be_staged
from assembler.transfer.operation_slots import OperationSlots
from assembler.transfer.rows import PageRows, RowMap


def group_of(host, device, *, row_bytes=4, strides=(4, 4), row_map=None):
    return RowGroup(
        shape=RowShape(
            row_map=row_map or RowMap(), row_bytes=row_bytes, strides=strides, row_nums=(50, 50)
        ),
        host=np.array(host, dtype=np.int64),
        device=np.array(device, dtype=np.int64),
    )


def pairs_of(group, host_rows, device_rows):
    slots = OperationSlots(
        get_device("cpu"),
        host_indices=torch.tensor(host_rows, dtype=torch.int64),
        device_indices=torch.tensor(device_rows, dtype=torch.int64),
    )
    planned = PlannedGroup(group, Direction.LOAD)
    check_rows(planned, slots)
    return slots.row_pairs(group.shape.row_map, touches=planned.touches)


def found(group, host_rows, device_rows):
    """Blocks as tuples: read, written, bytes."""
    blocks = load_blocks(group, pairs_of(group, host_rows, device_rows), slice(None))
    arrays = (blocks.src.tolist(), blocks.dst.tolist(), blocks.sizes.tolist())
    return list(zip(*arrays, strict=True))


def test_slots_that_follow_each_other_are_one_block_in_every_layer():
    # Two layers, 200 bytes apart on the host and 300 on the device.
    group = group_of([1000, 1200], [5000, 5300])

    assert found(group, [4, 5, 8], [1, 2, 3]) == [
        (1016, 5004, 8),
        (1032, 5012, 4),
        (1216, 5304, 8),
        (1232, 5312, 4),
    ]


def test_rows_that_do_not_touch_are_blocks_of_their_own():
    group = group_of([1000], [5000], strides=(8, 4))

    assert found(group, [4, 5], [1, 2]) == [(1032, 5004, 4), (1040, 5008, 4)]


def test_no_slots_are_no_blocks():
    assert found(group_of([1000, 1200], [5000, 5300]), [], []) == []


def test_a_backup_reads_what_a_load_writes():
    group = group_of([1000], [5000])
    load = load_blocks(group, pairs_of(group, [2], [3]), slice(None))

    backup = load.reversed()

    assert (load.src.tolist(), load.dst.tolist()) == ([1008], [5012])
    assert (backup.src.tolist(), backup.dst.tolist(), backup.sizes.tolist()) == (
        [5012],
        [1008],
        [4],
    )


def test_rows_of_single_layers_in_a_host_row_are_parts_that_touch():
    # Keys of two layers, then values of two layers, in rows of 8 bytes.
    group = group_of([100, 104, 500, 504], [10, 20, 30, 40], strides=(8, 4))

    parts = split_where_rows_end(group)

    assert [part.host.tolist() for part in parts] == [[100, 104], [500, 504]]
    assert [part.device.tolist() for part in parts] == [[10, 20], [30, 40]]
    assert [can_be_staged(part) for part in parts] == [True, True]
    # One layer of two: the rows of host memory between are another layer's.
    assert not can_be_staged(group_of([100], [10], strides=(8, 4)))
    assert split_where_rows_end(group_of([100, 900], [10, 20])) != ()
    assert can_be_staged(group_of([100, 900], [10, 20]))


def test_planes_of_two_widths_that_take_turns_are_two_groups():
    shapes = {
        width: RowShape(row_map=RowMap(), row_bytes=width, strides=(8, 8), row_nums=(6, 6))
        for width in (8, 4)
    }
    items = [(8, 300, 10), (4, 900, 20), (8, 100, 30), (4, 700, 40)]

    groups = grouped(items, lambda item: shapes[item[0]], lambda item: item[1:])

    assert [group.shape.row_bytes for group in groups] == [8, 4]
    # In order of the host's addresses.
    assert [group.host.tolist() for group in groups] == [[100, 300], [700, 900]]
    assert [group.device.tolist() for group in groups] == [[30, 10], [40, 20]]


def test_rows_of_pages_are_no_rows_of_slots():
    pages = PageRows(subject="rows", page_size=4)
    shape = {"row_bytes": 8, "strides": (8, 8), "row_nums": (6, 6)}

    groups = grouped(
        [RowMap(), pages],
        lambda row_map: RowShape(row_map=row_map, **shape),
        lambda row_map: (0, 0),
    )

    assert [group.shape.row_map for group in groups] == [RowMap(), pages]


@pytest.mark.parametrize(("host", "device"), [(50, 0), (-1, 0), (0, 50), (0, -1)])
def test_a_row_outside_of_its_buffer_raises(host, device):
    group = group_of([0], [0])
    assert pairs_of(group, [49, 0], [0, 49]).lengths.tolist() == [1, 1]

    with pytest.raises(TransferError, match=f"expected 0 to 49, got {host or device}$"):
        pairs_of(group, [1, host], [1, device])


def test_no_rows_are_inside_of_any_buffer():
    assert pairs_of(group_of([0], [0]), [], []).lengths.tolist() == []
