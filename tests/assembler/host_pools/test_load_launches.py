"""How many layers each launch of an announced load has."""

from types import SimpleNamespace

import pytest
import torch

from assembler.host_pools.expected_load import ExpectedLoad
from assembler.transfer.rows import RowMap

KB = 1000


class Layers:
    """Layers of one plane, and their spans."""

    def __init__(self, layer_num, row_bytes):
        rows = SimpleNamespace(host=SimpleNamespace(row_bytes=row_bytes), row_map=RowMap())
        self.layers = tuple(SimpleNamespace(rows=(rows,)) for _ in range(layer_num))

    def span(self, start, stop):
        return range(start, stop)


class Launches(list):
    """A submission that takes launches."""

    def launch_ahead(self, row_set, indices, *, direction):
        self.append(len(row_set))


@pytest.mark.parametrize(
    ("layer_num", "layer_bytes", "launches"),
    [
        # The first has 2 MB, each further one twice as much up to 32 MB; powers of two. A load of
        # 4 MB or less is one launch.
        (61, 100 * KB, [16, 32, 13]),
        (61, 328 * KB, [4, 8, 16, 32, 1]),
        (61, 4600 * KB, [1, 1, 1, 2, *[4] * 14]),
        (3, 40_000 * KB, [1, 1, 1]),
        (61, 65 * KB, [61]),
        (61, 66 * KB, [16, 32, 13]),
        (1, 0, [1]),
    ],
)
def test_launches_grow(layer_num, layer_bytes, launches):
    submission = Launches()
    slots = (torch.arange(10), torch.arange(10))
    load = ExpectedLoad(
        submission=submission,
        device_pool=None,
        slots=slots,
        stream=None,
        layers=Layers(layer_num, layer_bytes // 10),
    )

    for layer in range(layer_num):
        assert load.take_layer(layer) == load.layers.layers[layer].rows

    assert submission == launches
