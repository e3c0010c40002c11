import pytest
import torch

from assembler.host_pools.layouts import device_rows, layer_rows, token_buffer_shape
from assembler.names import HostLayout


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("layer_first", (3, 20, 2, 8)),
        ("page_first", (20, 3, 2, 8)),
        ("page_first_direct", (5, 3, 4, 2, 8)),
        ("page_head", (5, 2, 4, 3, 8)),
    ],
)
def test_buffer_of_3_layers_and_5_pages_of_4_slots(layout, shape):
    assert shape == token_buffer_shape(
        layout=HostLayout(layout), layer_num=3, page_num=5, page_size=4, row_shape=(2, 8)
    )


@pytest.mark.parametrize(
    ("layout", "shape", "rows"),
    [
        ("layer_first", (3, 20, 2, 8), (20, 2, 8)),
        ("page_first", (20, 3, 2, 8), (20, 2, 8)),
        ("page_first_direct", (5, 3, 4, 2, 8), (5, 4, 2, 8)),
        ("page_head", (5, 2, 4, 3, 8), (40, 8)),
    ],
)
def test_rows_of_a_layer_are_a_view(layout, shape, rows):
    buffer = torch.zeros(shape)

    view = layer_rows(buffer=buffer, layout=HostLayout(layout), layer=1)
    view.fill_(1)

    assert tuple(view.shape) == rows
    assert buffer.sum() == 5 * 4 * 2 * 8


@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        ("layer_first", (23, 2, 8)),
        ("page_first", (23, 2, 8)),
        ("page_first_direct", (5, 4, 2, 8)),  # 3 rows are no whole page
        ("page_head", (46, 8)),
    ],
)
def test_device_rows_pair_with_host_rows(layout, rows):
    buffer = torch.zeros(23, 2, 8)

    view = device_rows(buffer=buffer, layout=HostLayout(layout), page_size=4)

    assert tuple(view.shape) == rows
    assert view.data_ptr() == buffer.data_ptr()
