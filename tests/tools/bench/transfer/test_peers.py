import ctypes
from types import SimpleNamespace

import pytest
import torch

from assembler.device import get_device
from assembler.names import Direction, HostLayout, IoBackend
from tests.assembler.conftest import Pools
from tools.bench.transfer.peers import PEER_CHOICES, PeerMoves
from tools.errors import ToolError


def copy_rows(sources, targets, source_rows, target_rows, item):
    """Copy rows between addresses, which are (first row, bytes from row to row)."""
    for (source, source_step), (target, target_step) in zip(sources, targets, strict=True):
        pairs = zip(source_rows.tolist(), target_rows.tolist(), strict=True)
        for source_row, target_row in pairs:
            ctypes.memmove(
                target + target_row * target_step, source + source_row * source_step, item
            )


class Kernels:
    """Does on a CPU what kernels of these names and arguments do."""

    def _layers(self, tables, slots, item, layer_num):
        assert {len(table) for table in tables} == {layer_num}
        every = [[(address, item) for address in table.tolist()] for table in tables]
        for sources, targets in zip(every[::2], every[1::2], strict=True):
            copy_rows(sources, targets, *slots, item)

    def transfer_kv_all_layer(self, *arguments):
        *tables, src, dst, item, layer_num = arguments
        self._layers(tables, (src, dst), item, layer_num)

    transfer_kv_all_layer_mla = transfer_kv_all_layer

    def transfer_kv_all_layer_lf_pf(self, *arguments):
        *sides, src, dst, item, row, layer_num = arguments
        for table, buffer in zip(sides[::2], sides[1::2], strict=True):
            sources = [(address, item) for address in table.tolist()]
            targets = [(buffer.data_ptr() + layer * item, row) for layer in range(layer_num)]
            copy_rows(sources, targets, src, dst, item)

    transfer_kv_all_layer_mla_lf_pf = transfer_kv_all_layer_lf_pf

    def transfer_kv_per_layer(self, *arguments):
        *sides, src, dst, item = arguments
        for source, target in zip(sides[::2], sides[1::2], strict=True):
            copy_rows([(source.data_ptr(), item)], [(target.data_ptr(), item)], src, dst, item)

    transfer_kv_per_layer_mla = transfer_kv_per_layer

    def transfer_kv_per_layer_pf_lf(self, *arguments):
        *sides, src, dst, layer, item, row = arguments
        for source, target in zip(sides[::2], sides[1::2], strict=True):
            first = source.data_ptr() + layer * item
            copy_rows([(first, row)], [(target.data_ptr(), item)], src, dst, item)

    transfer_kv_per_layer_mla_pf_lf = transfer_kv_per_layer_pf_lf

    def transfer_kv_direct(self, sources, targets, src, dst, page_size):
        assert page_size == 4
        for source, target in zip(sources, targets, strict=True):
            target[dst] = source[src]


@pytest.fixture
def pools():
    return Pools(get_device("cpu"))


def make(pools, name, layout):
    if name == "mha":
        pool = pools.mha()
        return pool, pools.mha_host(pool, layout=layout)
    pool = pools.nsa() if name == "dsa" else pools.mla()
    return pool, pools.mla_host(pool, layout=layout, override=656 if name == "dsa" else None)


def buffers_of(pool, host):
    names = [plane.name for plane in host.planes]
    device = [
        pool.plane_buffer(plane=plane, layer=layer)
        for plane in names
        for layer in range(host.layer_num)
    ]
    return device, [host.plane_buffer(plane) for plane in names]


def fill(tensors, seed):
    generator = torch.Generator().manual_seed(seed)
    for tensor in tensors:
        content = torch.randint(256, (tensor.nbytes,), dtype=torch.uint8, generator=generator)
        tensor.view(-1).view(torch.uint8).copy_(content)


def as_bytes(tensors):
    return [tensor.view(-1).view(torch.uint8).clone() for tensor in tensors]


SLOTS = (torch.arange(8, 16), torch.arange(12, 20))


def assert_moves_as_ours(pool, host, moves, *, backend, direction):
    """Assert that kernels move the bytes that our own pools move, and that these are others."""
    device, outside = buffers_of(pool, host)
    written = outside if direction is Direction.BACKUP else device
    both = {"device_pool": pool, "host_indices": SLOTS[0], "device_indices": SLOTS[1]}
    fill([*device, *outside], 1)
    before = as_bytes(written)
    if direction is Direction.BACKUP:
        host.backup_from_device_all_layer(io_backend=backend.value, **both)
    else:
        for layer in range(host.layer_num):
            host.load_to_device_per_layer(layer_id=layer, io_backend=backend.value, **both)
    expected = as_bytes(written)
    fill([*device, *outside], 1)

    moves.work(direction)()

    assert all(map(torch.equal, as_bytes(written), expected))
    assert not all(map(torch.equal, before, expected))


@pytest.mark.parametrize("name", ["mha", "mla", "dsa"])
@pytest.mark.parametrize(("backend", "layout"), PEER_CHOICES)
@pytest.mark.parametrize("direction", list(Direction))
def test_the_kernels_get_the_arguments_that_move_what_our_pools_move(
    pools, name, backend, layout, direction
):
    pool, host = make(pools, name, layout.value)
    moves = PeerMoves(Kernels(), (pool, host), slots=SLOTS, backend=backend)

    assert_moves_as_ours(pool, host, moves, backend=backend, direction=direction)


def test_kernels_that_move_other_bytes_are_refused(pools, monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    pool, host = make(pools, "mla", HostLayout.LAYER_FIRST.value)
    fill([*buffers_of(pool, host)[0]], 1)
    PeerMoves(Kernels(), (pool, host), slots=SLOTS, backend=IoBackend.KERNEL).check()

    idle = SimpleNamespace(transfer_kv_all_layer_mla=lambda *arguments: None)
    host.kv_buffer.zero_()

    with pytest.raises(ToolError, match="must back up what the device has"):
        PeerMoves(idle, (pool, host), slots=SLOTS, backend=IoBackend.KERNEL).check()
