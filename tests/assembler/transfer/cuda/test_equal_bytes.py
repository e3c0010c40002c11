"""Every backend of the GPU against the portable one: the same bytes in every buffer."""

import pytest
import torch

from assembler.device import get_device
from assembler.errors import TransferError
from assembler.transfer import engine
from assembler.transfer.cuda import copier
from assembler.transfer.cuda.batch import find_batched_copy
from assembler.transfer.cuda.direct import CudaDirectMover
from assembler.transfer.cuda.kernel import CudaKernelMover
from assembler.transfer.cuda.row_kernel import CopyShape, row_kernels
from assembler.transfer.cuda.staging import StagedGroup
from assembler.transfer.cuda.ways import Way, WayLimits
from assembler.transfer.windows import access_bytes
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


_NEVER = 1 << 62
LIMITS = {
    Way.ENGINE: WayLimits(engine_bytes=0, block_bytes=_NEVER, staged_bytes=_NEVER),
    Way.STAGED: WayLimits(engine_bytes=_NEVER, block_bytes=0, staged_bytes=0),
    Way.KERNEL: WayLimits(engine_bytes=_NEVER, block_bytes=_NEVER, staged_bytes=_NEVER),
}


@pytest.fixture
def one_way(monkeypatch, pools):
    """Makes both backends go one way; returns the batches of blocks, each with its sizes."""

    def choose(way):
        # Parts of the ring that are so small that an operation has several pieces.
        monkeypatch.setattr(pools.device, "staging_bytes", 4 * 16384)
        batches = []
        copy_blocks = find_batched_copy()

        def counted(blocks, *, stream, is_first):
            batches.append(blocks.sizes.tolist())
            copy_blocks(blocks, stream=stream, is_first=is_first)

        chosen = copier.GroupCopier(counted, has_kernels=True, limits=LIMITS[way])
        movers = {"kernel": CudaKernelMover(chosen), "direct": CudaDirectMover(chosen)}
        monkeypatch.setattr(
            engine,
            "_set_mover",
            lambda device, backend: movers[backend] if device.has_fast_copies else None,
        )
        return batches

    return choose


def goes(way, layout, *, loads):
    """Whether rows of a layout go that way at all."""
    # A load goes layer by layer, and rows of single heads do not join in host memory.
    return layout != "page_head" and (way is not Way.STAGED or not loads)


@pytest.mark.parametrize("pages", [name for name in PAGES if name != "none"])
@pytest.mark.parametrize("loads", [False, True], ids=["backup", "load"])
@pytest.mark.parametrize(("name", "backend", "layout"), CASES)
@pytest.mark.parametrize("way", Way)
def test_bytes_of_every_way_are_those_of_the_portable_backend(
    pools, portable, one_way, way, name, backend, layout, pages, loads
):
    pool, host = make(pools, name, layout)
    host_pages, device_pages = PAGES[pages]
    slots = (slots_of(host_pages), slots_of(device_pages) % (24 if name == "mamba" else 28))
    expected = []
    batches = one_way(way)

    found = moved(pools.device, host, pool, slots, backend, loads=loads, expects=loads)
    portable(lambda: expected.extend(moved(pools.device, host, pool, slots, backend, loads=loads)))

    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    if way is Way.KERNEL:
        assert batches == []
    elif goes(way, layout, loads=loads) and name != "mamba":
        assert batches != []


@pytest.mark.parametrize("loads", [False, True], ids=["backup", "load"])
@pytest.mark.parametrize(("name", "backend", "layout"), CASES)
def test_copies_through_registers_move_the_same_bytes(
    monkeypatch, pools, portable, one_way, name, backend, layout, loads
):
    kernels = row_kernels(pools.device.ordinal)
    without_bulk = type(kernels)(bulk=None, vectors=kernels.vectors)
    monkeypatch.setattr(copier, "row_kernels", lambda ordinal: without_bulk)
    pool, host = make(pools, name, layout)
    slots = (slots_of([5, 0, 8]), slots_of([1, 2, 6]) % (24 if name == "mamba" else 28))
    expected = []
    one_way(Way.KERNEL)

    found = moved(pools.device, host, pool, slots, backend, loads=loads)
    portable(lambda: expected.extend(moved(pools.device, host, pool, slots, backend, loads=loads)))

    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_all_layers_go_to_the_driver_at_once(pools, one_way):
    pool, host = make(pools, "dsa", "layer_first")
    batches = one_way(Way.ENGINE)

    moved(
        pools.device, host, pool, (slots_of([4, 5, 9]), slots_of([2, 3, 1])), "direct", loads=False
    )

    # Two neighbouring pages are one block: 2 * 4 * 656 bytes; a page is 4 * 656.
    # Those of the first layer are submitted while the others are computed.
    assert batches == [[5248, 2624], [5248, 2624] * 2]


@pytest.fixture
def pieces(monkeypatch, one_way):
    """The rows of each piece that goes through device memory; all backups go that way."""
    one_way(Way.STAGED)
    found = []
    move_piece = StagedGroup._move_piece

    def counted(self, part, piece, **others):
        found.append(piece.row_num)
        move_piece(self, part, piece, **others)

    monkeypatch.setattr(StagedGroup, "_move_piece", counted)
    return found


def test_a_backup_goes_through_device_memory_in_pieces(pools, pieces):
    pool, host = make(pools, "dsa", "page_first")

    moved(
        pools.device, host, pool, (slots_of([4, 5, 9]), slots_of([2, 3, 1])), "kernel", loads=False
    )

    # A quarter of the rows was moved in place before. A row of all layers has 3 * 656 bytes, eight
    # of them are a part; the first piece is smaller.
    assert pieces == [2, 7]


@pytest.mark.parametrize(("host_slot", "limit"), [(52, 51), (-1, 51)])
def test_a_row_outside_of_the_host_pool_is_reported_and_not_staged(pools, pieces, host_slot, limit):
    device, (pool, host) = pools.device, make(pools, "dsa", "page_first")
    slots = [device.to_device(torch.tensor(one)) for one in ([2, host_slot], [7, 8])]
    both = {"host_indices": slots[0], "device_indices": slots[1], "io_backend": "kernel"}
    device.synchronize()

    host.backup_from_device_all_layer(device_pool=pool, **both)
    with pytest.raises(TransferError, match=rf"expected 0 to {limit}, got {host_slot}$"):
        device.synchronize()

    assert pieces == []


def test_slots_that_changed_on_the_device_are_not_staged(pools, pieces):
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

    assert pieces == []
    row = pool.plane_buffer(plane="kv", layer=0)[7].cpu().view(torch.uint8)
    assert torch.equal(host.kv_buffer[3, 0].view(torch.uint8), row)
    assert host.kv_buffer[2].view(torch.uint8).eq(0).all()


@pytest.mark.parametrize("row_bytes", [8, 16, 656, 8448, 24576, 24592, 131072, 1000008])
@pytest.mark.parametrize("windows_inside", [False, True])
@pytest.mark.parametrize("uses_bulk", [False, True])
def test_rows_of_any_width_arrive_and_nothing_beside_them_changes(
    pools, row_bytes, windows_inside, uses_bulk
):
    device = pools.device
    # Three windows of seven rows; on the host a row has all windows, or a window has all rows.
    src = torch.randint(256, (3, 7, row_bytes), dtype=torch.uint8).to(device.torch_device)
    dst = torch.zeros((7, 3, row_bytes) if windows_inside else (3, 7, row_bytes)).to(torch.uint8)
    dst = dst.pin_memory()
    step = row_bytes if windows_inside else 7 * row_bytes
    plan = row_kernels(device.ordinal).plan(
        CopyShape(
            strides=(row_bytes, 3 * row_bytes if windows_inside else row_bytes),
            row_nums=(7, 7),
            slots_per_row=(1, 1),
            row_bytes=row_bytes,
            vector_bytes=access_bytes(row_bytes),
            windows_inside=windows_inside,
        ),
        tuple(
            (src.data_ptr() + window * 7 * row_bytes, dst.data_ptr() + window * step)
            for window in range(3)
        ),
        device.row_report_word,
        uses_bulk=uses_bulk,
    )
    rows = [torch.tensor(one).to(device.torch_device) for one in ([0, 1, 2, 6, 3], [2, 3, 4, 0, 6])]
    device.synchronize()

    plan.launch(
        src_slots=rows[0].data_ptr(),
        dst_slots=rows[1].data_ptr(),
        pair_num=5,
        programs=2,
        stream=0,
    )
    device.synchronize()

    found = dst.transpose(0, 1) if windows_inside else dst
    assert torch.equal(found[:, [2, 3, 4, 0, 6]], src[:, [0, 1, 2, 6, 3]].cpu())
    assert found[:, [1, 5]].eq(0).all()
