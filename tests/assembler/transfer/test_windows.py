import torch

from assembler.transfer.windows import access_bytes, device_window, host_window


def test_host_window_has_true_addresses():
    buffer = torch.zeros(6, 3, 4, dtype=torch.bfloat16)  # (slots, layers, elements)

    window = host_window(buffer=buffer, rows=buffer[:, 2])

    assert window.row_bytes == 8  # 4 * 2
    assert window.stride_bytes == 24  # 3 * 4 * 2
    assert window.offset_bytes == 16  # 2 layers * 4 * 2
    assert window.base.shape == (144,)
    assert window.base.dtype == torch.uint8
    assert not window.is_dense


def test_window_over_part_of_a_tensor_counts_from_the_part():
    whole = torch.zeros(2, 6, 4, dtype=torch.bfloat16)

    window = host_window(buffer=whole[1], rows=whole[1])

    assert window.offset_bytes == 0
    assert window.base.data_ptr() == whole[1].data_ptr()
    assert window.is_dense


def test_device_window_trusts_the_hosts_row_width():
    buffer = torch.zeros(10, 1, 656, dtype=torch.uint8)

    window = device_window(buffer=buffer, rows=buffer, row_bytes=576)

    assert (window.offset_bytes, window.stride_bytes, window.row_bytes) == (0, 576, 576)
    assert window.tensor.shape == (10, 1, 656)
    assert window.base.shape == (6560,)


def test_mapping_a_window_keeps_its_addresses(cpu):
    buffer = torch.zeros(6, 3, 4, dtype=torch.bfloat16)
    window = host_window(buffer=buffer, rows=buffer[:, 2])

    mapped = window.mapped_by(cpu)

    assert mapped.base.data_ptr() == window.base.data_ptr()
    assert (mapped.offset_bytes, mapped.stride_bytes, mapped.row_bytes) == (16, 24, 8)


def test_rows_of_a_window_are_those_of_its_tensor():
    buffer = torch.zeros(6, 3, 4, dtype=torch.bfloat16)

    assert host_window(buffer=buffer, rows=buffer[:, 2]).row_num == 6


def test_a_stride_beyond_the_buffer_leaves_rows_out():
    buffer = torch.zeros(10, 1, 576, dtype=torch.uint8)

    assert device_window(buffer=buffer, rows=buffer, row_bytes=576).row_num == 10
    # 5760 bytes hold eight rows of 656, and 512 bytes of the ninth.
    assert device_window(buffer=buffer, rows=buffer, row_bytes=656).row_num == 8


def test_an_access_is_as_wide_as_every_number_allows():
    assert access_bytes(656, 40016, 1 << 20) == 16
    assert access_bytes(656, 40024, 1 << 20) == 8
