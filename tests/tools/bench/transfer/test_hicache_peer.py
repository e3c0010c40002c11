"""SGLang's compiled kernels get the arguments with which they move what our pools move."""

import pytest
import torch

from assembler.device import get_device
from assembler.names import Direction, HostLayout
from tests.assembler.conftest import Pools
from tests.tools.bench.transfer.test_peers import (
    SLOTS,
    assert_moves_as_ours,
    buffers_of,
    copy_rows,
    fill,
    make,
)
from tools.bench.transfer.hicache_peer import HICACHE_CHOICES, HicacheMoves
from tools.errors import ToolError


class Kernels:
    """Does on a CPU what functions of these names and arguments do."""

    def _one_layer(self, *arguments, element_dim, page_size):
        half = len(arguments) // 2
        *targets, dst = arguments[:half]
        *sources, src = arguments[half:]
        for source, target in zip(sources, targets, strict=True):
            assert source[0].numel() == target[0].numel() == element_dim
            assert page_size == 4
            target.view(torch.uint8)[dst] = source.view(torch.uint8)[src]

    transfer_hicache_one_layer = _one_layer
    transfer_hicache_one_layer_mla = _one_layer

    def _all_layers(self, arguments, steps, item):
        half = len(arguments) // 2
        *targets, dst = arguments[:half]
        *sources, src = arguments[half:]
        for source, target in zip(sources, targets, strict=True):
            pairs = [
                [(address, step) for address in table.tolist()]
                for table, step in zip((source, target), steps, strict=True)
            ]
            copy_rows(*pairs, src, dst, item)

    def transfer_hicache_all_layer(self, *arguments, page_size, element_size, **steps):
        assert page_size == 4
        names = ("kv_cache_src_stride_bytes", "kv_cache_dst_stride_bytes")
        self._all_layers(arguments, [steps[name] for name in names], element_size)

    def transfer_hicache_all_layer_mla(self, *arguments, page_size, element_size, **steps):
        assert page_size == 4
        names = ("cache_src_stride_bytes", "cache_dst_stride_bytes")
        self._all_layers(arguments, [steps[name] for name in names], element_size)

    def _staged(self, *arguments, page_size):
        planes = (len(arguments) - 2) // 3
        tables, (src, dst) = arguments[:planes], arguments[planes : planes + 2]
        staging, targets = arguments[planes + 2 :][:planes], arguments[planes + 2 :][planes:]
        assert page_size == 4
        for table, part, target in zip(tables, staging, targets, strict=True):
            assert part.shape[1:] == target.shape[1:]
            assert part.shape[0] == 64 * page_size
            item = target[0, 0].nbytes
            for layer, address in enumerate(table.tolist()):
                first = target.data_ptr() + layer * item
                copy_rows([(address, item)], [(first, target[0].nbytes)], src, dst, item)

    transfer_hicache_all_layer_staged_lf_pf = _staged
    transfer_hicache_all_layer_mla_staged_lf_pf = _staged


@pytest.fixture
def pools():
    return Pools(get_device("cpu"))


@pytest.mark.parametrize("name", ["mha", "mla", "dsa"])
@pytest.mark.parametrize(("backend", "layout"), HICACHE_CHOICES)
@pytest.mark.parametrize("direction", list(Direction))
def test_the_kernels_get_the_arguments_that_move_what_our_pools_move(
    pools, name, backend, layout, direction
):
    pool, host = make(pools, name, layout.value)
    moves = HicacheMoves(Kernels(), (pool, host), slots=SLOTS)

    assert_moves_as_ours(pool, host, moves, backend=backend, direction=direction)


def test_kernels_that_move_other_bytes_are_refused(pools, monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    pool, host = make(pools, "mla", HostLayout.LAYER_FIRST.value)
    fill([*buffers_of(pool, host)[0]], 1)
    HicacheMoves(Kernels(), (pool, host), slots=SLOTS).check()

    class Idle(Kernels):
        def transfer_hicache_all_layer_mla(self, *arguments, **others):
            pass

    host.kv_buffer.zero_()

    with pytest.raises(ToolError, match="sglang: must back up what the device has"):
        HicacheMoves(Idle(), (pool, host), slots=SLOTS).check()
