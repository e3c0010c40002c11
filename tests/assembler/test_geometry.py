import torch

from assembler.geometry import PlaneGeometry, PoolGeometry
from assembler.names import PoolName


def test_row_bytes_are_elements_times_item_bytes():
    plane = PlaneGeometry(name="k", row_shape=(8, 128), dtype=torch.bfloat16)

    assert plane.row_bytes == 2048  # 8 * 128 * 2


def test_bytes_per_row_sum_planes_and_layers():
    keys = PlaneGeometry(name="k", row_shape=(2, 8), dtype=torch.bfloat16)
    values = PlaneGeometry(name="v", row_shape=(2, 4), dtype=torch.bfloat16)
    geometry = PoolGeometry(pool=PoolName.KV, planes=(keys, values), slots_per_row=1, layer_num=3)

    assert geometry.bytes_per_row == 144  # (32 + 16) * 3
