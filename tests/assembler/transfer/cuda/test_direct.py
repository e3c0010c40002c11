import pytest
import torch

from assembler.device import get_device
from assembler.errors import TransferError
from assembler.names import Direction
from assembler.transfer.cuda.direct import CudaDirectRowMover, _group_key, blocks_of
from assembler.transfer.mover import RowCopy, SlotPairs, grouped_copies
from assembler.transfer.rows import PageRows, RowMap
from assembler.transfer.windows import host_window


def copies_of(hosts, devices, host_slots, device_slots, *, row_map, direction=Direction.BACKUP):
    slots = SlotPairs(
        subject="rows",
        row_map=row_map,
        host_indices=torch.tensor(host_slots, dtype=torch.int64),
        device_indices=torch.tensor(device_slots, dtype=torch.int64),
    )
    return [
        RowCopy(direction=direction, slots=slots, host=host, device=device)
        for host, device in zip(hosts, devices, strict=True)
    ]


def found(copies, src, dst):
    """Blocks of copies, with addresses counted from the first bytes of two tensors."""
    blocks = blocks_of(copies)
    addresses = (blocks.src - src.data_ptr(), blocks.dst - dst.data_ptr())
    return [array.tolist() for array in (*addresses, blocks.sizes)]


def whole(tensor):
    return host_window(buffer=tensor, rows=tensor)


def layers(buffer, axis):
    return [
        host_window(buffer=buffer, rows=buffer.select(axis, layer))
        for layer in range(buffer.shape[axis])
    ]


def test_slots_that_follow_each_other_are_one_block_in_every_layer():
    host, device = (
        torch.zeros(2, 12, 4, dtype=torch.uint8),
        torch.zeros(2, 10, 4, dtype=torch.uint8),
    )
    both = (layers(host, 0), layers(device, 0))

    copies = copies_of(*both, [4, 5, 8], [1, 2, 3], row_map=RowMap())

    # Rows of 4 bytes; a layer has 48 bytes on the host and 40 on the device.
    assert found(copies, device, host) == [[4, 12, 44, 52], [16, 32, 64, 80], [8, 4, 8, 4]]


def test_a_load_reads_the_host():
    host, device = torch.zeros(6, 4, dtype=torch.uint8), torch.zeros(5, 4, dtype=torch.uint8)
    both = ([whole(host)], [whole(device)])

    copies = copies_of(*both, [1], [3], row_map=RowMap(), direction=Direction.LOAD)

    assert found(copies, host, device) == [[4], [12], [4]]


def test_whole_layers_of_equal_buffers_are_one_block():
    host, device = torch.zeros(3, 2, 4, dtype=torch.uint8), torch.zeros(3, 2, 4, dtype=torch.uint8)
    both = (layers(host, 0), layers(device, 0))

    copies = copies_of(*both, [0, 1], [0, 1], row_map=RowMap())

    assert found(copies, device, host) == [[0], [0], [24]]


def test_pages_between_other_layers_are_blocks_of_their_own():
    host = torch.zeros(3, 2, 4, 8, dtype=torch.uint8)  # (page, layer, slot, element)
    device = torch.zeros(2, 3, 4, 8, dtype=torch.uint8)  # (layer, page, slot, element)
    both = (layers(host, 1), layers(device, 0))
    pages = PageRows(subject="rows", page_size=4)

    copies = copies_of(*both, range(8), range(4, 12), row_map=pages)

    assert found(copies, device, host) == [[32, 64, 128, 160], [0, 64, 32, 96], [32, 32, 32, 32]]


def test_planes_of_two_widths_that_take_turns_are_two_groups():
    wide, narrow = torch.zeros(2, 6, 4), torch.zeros(2, 6, 2)
    both = zip(layers(wide, 0), layers(narrow, 0), strict=True)
    windows = [window for pair in both for window in pair]
    copies = copies_of(windows, windows, [1, 2], [1, 2], row_map=RowMap())

    groups = grouped_copies(copies, _group_key)

    assert [[copy.host.row_bytes for copy in group] for group in groups] == [[16, 16], [8, 8]]
    # Both layers of the wide plane, then both of the narrow one.
    assert blocks_of(copies).sizes.tolist() == [32, 32, 16, 16]


def test_no_slots_are_no_blocks():
    host, device = torch.zeros(6, 4), torch.zeros(5, 4)

    copies = copies_of([whole(host)], [whole(device)], [], [], row_map=RowMap())

    assert found(copies, device, host) == [[], [], []]


@pytest.mark.parametrize(("host_slot", "device_slot"), [(6, 0), (-1, 0), (0, 5), (0, -1)])
def test_a_row_outside_of_its_buffer_raises(host_slot, device_slot):
    hosts, devices = [whole(torch.zeros(6, 4))], [whole(torch.zeros(5, 4))]
    blocks_of(copies_of(hosts, devices, [5], [4], row_map=RowMap()))

    with pytest.raises(TransferError, match="rows must lie in the buffer"):
        blocks_of(copies_of(hosts, devices, [host_slot], [device_slot], row_map=RowMap()))


def test_a_part_of_a_page_raises():
    rows = [whole(torch.zeros(6, 4, 4))]
    pages = PageRows(subject="rows", page_size=4)

    with pytest.raises(TransferError, match="expected slot 4 at position 0, got slot 5"):
        blocks_of(copies_of(rows, rows, [4, 5, 6, 7], [5, 6, 7, 8], row_map=pages))


def admitted(mover, host_slots, device_slots):
    slots = SlotPairs(
        subject="rows",
        row_map=PageRows(subject="rows", page_size=4),
        host_indices=host_slots,
        device_indices=device_slots,
    )
    window = whole(torch.zeros(6, 4, 4))
    mover.admit(get_device("cpu"), slots, host=window, label="backup")


def test_slots_are_looked_through_again_when_they_have_changed():
    mover = CudaDirectRowMover(lambda blocks, *, stream: None)
    host_slots, device_slots = torch.arange(4), torch.arange(4, 8)
    admitted(mover, host_slots, device_slots)
    admitted(mover, host_slots, device_slots)

    host_slots += 1

    with pytest.raises(TransferError, match="expected slot 0 at position 0, got slot 1"):
        admitted(mover, host_slots, device_slots)


def test_other_slots_are_looked_through():
    mover = CudaDirectRowMover(lambda blocks, *, stream: None)
    slots = torch.arange(4)
    admitted(mover, slots, slots)

    with pytest.raises(TransferError, match="expected slot 0 at position 0, got slot 1"):
        admitted(mover, slots, slots + 1)
    admitted(mover, slots, slots)
