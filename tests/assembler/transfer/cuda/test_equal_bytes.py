"""Every backend of the GPU against the portable one: the same bytes in every buffer."""

import pytest
import torch

from assembler.device import get_device
from assembler.errors import TransferError
from assembler.transfer import engine
from assembler.transfer.cuda import direct
from tests.assembler.conftest import Pools

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

LAYOUTS = [
    *(("kernel", layout) for layout in ("layer_first", "page_first")),
    *(("direct", layout) for layout in ("layer_first", "page_first_direct")),
]
# Pools have six pages of four slots, and a page of padding in front on the device.
PAGES = {
    "none": ([], []),
    "one": ([3], [2]),
    "odd": ([5, 0, 8], [1, 2, 6]),
    "neighbours": ([4, 5, 6, 1], [2, 3, 4, 6]),
    "all": ([11, 0, 5, 3, 2, 7], [6, 1, 3, 2, 5, 4]),
}


@pytest.fixture
def pools():
    return Pools(get_device("cuda"))


@pytest.fixture
def portable(monkeypatch, pools):
    """Runs a function with the backends that need no GPU."""

    def run(work):
        with monkeypatch.context() as patch:
            patch.setattr(pools.device, "has_fast_copies", False)
            work()

    return run


POOLS = {
    "mha": (
        lambda pools: pools.mha(),
        lambda pools, pool, layout: pools.mha_host(pool, layout=layout),
    ),
    "mha_narrow_v": (
        lambda pools: pools.mha(v_head_dim=4),
        lambda pools, pool, layout: pools.mha_host(pool, layout=layout),
    ),
    "mla": (
        lambda pools: pools.mla(),
        lambda pools, pool, layout: pools.mla_host(pool, layout=layout),
    ),
    "dsa": (
        lambda pools: pools.nsa(),
        lambda pools, pool, layout: pools.mla_host(pool, layout=layout, override=656),
    ),
    "indexer": (
        lambda pools: pools.nsa(),
        lambda pools, pool, layout: pools.indexer_host(pool, layout=layout),
    ),
}
CASES = [(name, *case) for name in POOLS for case in LAYOUTS]
CASES += [("mha", "kernel", "page_head"), ("mha_narrow_v", "kernel", "page_head")]
CASES += [("mamba", backend, layout) for backend, layout in LAYOUTS]


def slots_of(pages):
    return (torch.tensor(pages, dtype=torch.int64)[:, None] * 4 + torch.arange(4)).view(-1)


def buffers_of(pool, host, *, device):
    if device:
        return [
            pool.plane_buffer(plane=plane.name, layer=layer)
            for plane in host.planes
            for layer in range(host.layer_num)
        ]
    return [host.plane_buffer(plane.name) for plane in host.planes]


def fill(tensors, seed):
    for number, tensor in enumerate(tensors):
        generator = torch.Generator().manual_seed(seed * 1000 + number)
        content = torch.randint(256, (tensor.nbytes,), dtype=torch.uint8, generator=generator)
        tensor.view(-1).view(torch.uint8).copy_(content)


def bytes_of(tensors):
    return [tensor.view(-1).view(torch.uint8).cpu().clone() for tensor in tensors]


def moved(device, host, pool, pages, backend, *, loads, expects=False):
    """Move once on a stream of its own and return the bytes of the side that is written."""
    fill(buffers_of(pool, host, device=True), 1)
    fill(buffers_of(pool, host, device=False), 2)
    device.synchronize()
    host_slots, slots = pages
    if backend == "kernel":
        host_slots, slots = device.to_device(host_slots), device.to_device(slots)
    device.synchronize()
    both = {"host_indices": host_slots, "device_indices": slots, "io_backend": backend}
    with device.on(device.new_stream("write")):
        if expects:
            host.expect_load(device_pool=pool, **both)
        if loads:
            for layer in range(host.layer_num):
                host.load_to_device_per_layer(device_pool=pool, layer_id=layer, **both)
        else:
            host.backup_from_device_all_layer(device_pool=pool, **both)
    device.synchronize()
    return bytes_of(buffers_of(pool, host, device=loads))


def make(pools, name, layout):
    if name == "mamba":
        pool = pools.mamba()
        return pool, pools.mamba_host(pool, layout=layout)
    make_pool, make_host = POOLS[name]
    pool = make_pool(pools)
    return pool, make_host(pools, pool, layout)


@pytest.mark.parametrize("loads", [False, True], ids=["backup", "load"])
@pytest.mark.parametrize("pages", PAGES)
@pytest.mark.parametrize(("name", "backend", "layout"), CASES)
def test_bytes_are_those_of_the_portable_backend(
    pools, portable, name, backend, layout, pages, loads
):
    pool, host = make(pools, name, layout)
    host_pages, device_pages = PAGES[pages]
    # States have no padding page; its slots become those of page 0, which no list has.
    slots = (slots_of(host_pages), slots_of(device_pages) % (24 if name == "mamba" else 28))
    expected = []

    found = moved(pools.device, host, pool, slots, backend, loads=loads)
    portable(lambda: expected.extend(moved(pools.device, host, pool, slots, backend, loads=loads)))

    before = len(expected)
    fill(buffers_of(pool, host, device=loads), 1 if loads else 2)
    untouched = bytes_of(buffers_of(pool, host, device=loads))
    assert before == len(found) > 0
    for one, other, old in zip(found, expected, untouched, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(other, old) == (pages == "none")


@pytest.mark.parametrize("loads", [False, True], ids=["backup", "load"])
def test_kernel_moves_single_slots_in_any_order(pools, portable, loads):
    pool, host = make(pools, "dsa", "page_first")
    slots = (torch.tensor([7, 40, 3, 9, 2]), torch.tensor([6, 5, 25, 8, 11]))
    expected = []

    found = moved(pools.device, host, pool, slots, "kernel", loads=loads)
    portable(lambda: expected.extend(moved(pools.device, host, pool, slots, "kernel", loads=loads)))

    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(("host_slot", "slot", "limit"), [(52, 5, 51), (-1, 5, 51), (5, 28, 27)])
def test_kernel_reports_a_row_outside_and_moves_the_others(pools, host_slot, slot, limit):
    device, (pool, host) = pools.device, make(pools, "dsa", "page_first")
    fill(buffers_of(pool, host, device=True), 1)
    host.kv_buffer.zero_()
    slots = [device.to_device(torch.tensor(one)) for one in ([2, host_slot], [7, slot])]
    device.synchronize()

    host.backup_from_device_all_layer(
        device_pool=pool, host_indices=slots[0], device_indices=slots[1], io_backend="kernel"
    )
    outside = host_slot if slot == 5 else slot
    with pytest.raises(TransferError, match=f"expected 0 to {limit}, got {outside}$"):
        device.synchronize()

    for layer in range(3):
        row = pool.plane_buffer(plane="kv", layer=layer)[7].cpu().view(torch.uint8)
        assert torch.equal(host.kv_buffer[2, layer].view(torch.uint8), row)
    host.kv_buffer[2].zero_()
    assert host.kv_buffer.view(torch.uint8).eq(0).all()
    device.synchronize()


@pytest.mark.parametrize("pages", [name for name in PAGES if name != "none"])
@pytest.mark.parametrize("loads", [False, True], ids=["backup", "load"])
@pytest.mark.parametrize(("name", "layout"), [(n, o) for n, b, o in CASES if b == "direct"])
def test_blocks_of_any_length_are_those_of_the_portable_backend(
    monkeypatch, pools, portable, name, layout, pages, loads
):
    # Rows are so short here that a kernel would move them.
    monkeypatch.setattr(direct, "_FEWEST_BLOCK_BYTES", 0)
    pool, host = make(pools, name, layout)
    host_pages, device_pages = PAGES[pages]
    slots = (slots_of(host_pages), slots_of(device_pages) % (24 if name == "mamba" else 28))
    expected = []

    found = moved(pools.device, host, pool, slots, "direct", loads=loads, expects=loads)
    portable(lambda: expected.extend(moved(pools.device, host, pool, slots, "direct", loads=loads)))

    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_direct_hands_all_layers_to_the_driver_at_once(pools, monkeypatch):
    from assembler.transfer.cuda.movers import cuda_movers

    monkeypatch.setattr(direct, "_FEWEST_BLOCK_BYTES", 0)
    mover = cuda_movers()["direct"]
    sizes = []
    copy_blocks = mover._copy_blocks

    def counted(blocks, *, stream):
        sizes.append(blocks.sizes.tolist())
        copy_blocks(blocks, stream=stream)

    monkeypatch.setattr(mover, "_copy_blocks", counted)
    pool, host = make(pools, "dsa", "layer_first")

    moved(
        pools.device, host, pool, (slots_of([4, 5, 9]), slots_of([2, 3, 1])), "direct", loads=False
    )

    # Two neighbouring pages are one block: 2 * 4 * 656 bytes; a page is 4 * 656.
    assert sizes == [[5248, 2624] * 3]


@pytest.fixture
def staged(monkeypatch, pools):
    """The kernel backend with staging for every move, in parts of a page of memory."""
    from assembler.transfer.cuda import kernel
    from assembler.transfer.cuda.batch import find_batched_copy
    from assembler.transfer.cuda.staging import StagedGroup

    monkeypatch.setattr(kernel, "_FEWEST_STAGED_BYTES", 0)
    monkeypatch.setattr(kernel, "_FEWEST_BLOCK_BYTES", 0)
    monkeypatch.setattr(pools.device, "staging_bytes", 4 * 4096)
    mover = kernel.CudaKernelMover(find_batched_copy())
    monkeypatch.setattr(
        engine,
        "_set_mover",
        lambda device, backend: mover if device.has_fast_copies else None,
    )
    pieces = []
    copy_piece = StagedGroup._copy_piece

    def counted(self, part, blocks, device_rows, **others):
        pieces.append(len(device_rows))
        copy_piece(self, part, blocks, device_rows, **others)

    monkeypatch.setattr(StagedGroup, "_copy_piece", counted)
    return pieces


STAGED = [
    *((name, "layer_first", loads) for name in POOLS for loads in (False, True)),
    # A load goes layer by layer, which are no blocks of such a host pool.
    *((name, "page_first", False) for name in POOLS),
]


@pytest.mark.parametrize("pages", [name for name in PAGES if name != "none"])
@pytest.mark.parametrize(("name", "layout", "loads"), STAGED)
def test_staged_bytes_are_those_of_the_portable_backend(
    pools, portable, staged, name, layout, pages, loads
):
    pool, host = make(pools, name, layout)
    host_pages, device_pages = PAGES[pages]
    slots = (slots_of(host_pages), slots_of(device_pages))
    expected = []

    found = moved(pools.device, host, pool, slots, "kernel", loads=loads, expects=loads)
    taken = sum(staged)
    portable(lambda: expected.extend(moved(pools.device, host, pool, slots, "kernel", loads=loads)))

    assert taken >= len(host_pages)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_row_outside_of_the_host_pool_is_reported_and_not_staged(pools, staged):
    device, (pool, host) = pools.device, make(pools, "dsa", "page_first")
    slots = [device.to_device(torch.tensor(one)) for one in ([2, 52], [7, 8])]
    both = {"host_indices": slots[0], "device_indices": slots[1], "io_backend": "kernel"}
    device.synchronize()

    host.backup_from_device_all_layer(device_pool=pool, **both)
    with pytest.raises(TransferError, match=r"expected 0 to 51, got 52$"):
        device.synchronize()

    assert staged == []


def test_slots_that_changed_on_the_device_are_not_staged(pools, staged):
    device, (pool, host) = pools.device, make(pools, "dsa", "page_first")
    fill(buffers_of(pool, host, device=True), 1)
    host.kv_buffer.zero_()
    host_slots, slots = (device.to_device(torch.tensor(one)) for one in ([2], [7]))
    host_slots += 1
    device.synchronize()

    host.backup_from_device_all_layer(
        device_pool=pool, host_indices=host_slots, device_indices=slots, io_backend="kernel"
    )
    device.synchronize()

    assert staged == []
    row = pool.plane_buffer(plane="kv", layer=0)[7].cpu().view(torch.uint8)
    assert torch.equal(host.kv_buffer[3, 0].view(torch.uint8), row)
    assert host.kv_buffer[2].view(torch.uint8).eq(0).all()
