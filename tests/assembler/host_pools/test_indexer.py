import pytest
import torch

from assembler.errors import TransferError
from assembler.host_pools.indexer import index_row_bytes
from assembler.names import PoolName


def back_up(host, pool, *, slots, host_slots, io_backend):
    for layer, pages in enumerate(pool.index_k_with_scale_buffer):
        generator = torch.Generator().manual_seed(layer)
        pages.copy_(torch.randint(0, 256, pages.shape, generator=generator, dtype=torch.uint8))
    host.backup_from_device_all_layer(
        device_pool=pool,
        host_indices=torch.tensor(host_slots),
        device_indices=torch.tensor(slots),
        io_backend=io_backend,
    )


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("layer_first", (3, 14, 528)),  # 13 pages of the anchor and one; 4 * 132 bytes
        ("page_first", (14, 3, 1, 528)),
        ("page_first_direct", (14, 3, 1, 528)),
    ],
)
def test_buffer_shapes(pools, layout, shape):
    host = pools.indexer_host(pools.nsa(), layout=layout)

    assert tuple(host.index_k_with_scale_buffer.shape) == shape
    assert host.index_k_with_scale_buffer.dtype == torch.uint8


def test_pool_is_as_large_as_its_anchor(pools):
    host = pools.indexer_host(pools.nsa())

    assert (host.size, host.page_num, host.page_size) == (52, 13, 4)
    assert host.size_per_token == 396  # 132 * 3 layers


def test_index_page_of_64_tokens_is_8448_bytes():
    assert index_row_bytes(page_size=64, index_head_dim=128) == 8448  # 64 * (128 + 4)


def test_page_of_64_tokens_is_8448_bytes(pools):
    pool = pools.nsa(size=256, page_size=64)
    anchor = pools.mla_host(pool, override=656, page_size=64)
    host = type(pools.indexer_host(pools.nsa()))(
        device_pool=pool,
        anchor_host=anchor,
        layout="layer_first",
        pin_memory=True,
        device=pools.device,
        allocator_type=None,
    )

    assert host.geometry(PoolName.INDEXER).planes[0].row_bytes == 8448
    assert host.geometry(PoolName.INDEXER) == pool.mirrored()[1].geometry


def test_whole_pages_move_with_the_anchors_slots(pools):
    pool = pools.nsa()
    host = pools.indexer_host(pool, layout="page_first")

    back_up(host, pool, slots=[12, 13, 14, 15], host_slots=[20, 21, 22, 23], io_backend="kernel")

    for layer in range(3):
        page = host.index_k_with_scale_buffer[5, layer, 0]
        assert torch.equal(page, pool.index_k_with_scale_buffer[layer][3])


@pytest.mark.parametrize("io_backend", ["kernel", "direct"])
@pytest.mark.parametrize(
    ("slots", "host_slots", "message"),
    [
        ([4, 5, 6], [0, 1, 2], "expected a multiple of 4 slots, got 3"),
        ([5, 6, 7, 8], [0, 1, 2, 3], "expected slot 4 at position 0, got slot 5"),
        ([4, 5, 6, 7], [2, 3, 4, 5], "expected slot 0 at position 0, got slot 2"),
        ([4, 6, 5, 7], [0, 1, 2, 3], "expected slot 5 at position 1, got slot 6"),
    ],
)
def test_slots_that_are_not_aligned_pages_raise_and_move_nothing(
    pools, io_backend, slots, host_slots, message
):
    pool = pools.nsa()
    host = pools.indexer_host(pool)
    host.index_k_with_scale_buffer.fill_(0)

    with pytest.raises(TransferError, match=message):
        back_up(host, pool, slots=slots, host_slots=host_slots, io_backend=io_backend)

    assert host.index_k_with_scale_buffer.eq(0).all()


def test_page_that_is_not_whole_words_cannot_go_by_kernel(pools):
    """A page of one slot is 132 bytes, and the field's kernels copy eight at a time."""
    pool = pools.nsa(page_size=1)
    anchor = pools.mla_host(pool, override=656, page_size=1)
    host = type(pools.indexer_host(pools.nsa()))(
        device_pool=pool,
        anchor_host=anchor,
        layout="layer_first",
        pin_memory=True,
        device=pools.device,
        allocator_type=None,
    )

    with pytest.raises(TransferError, match=r"multiples of 8, got \(0, 132, 132\)"):
        back_up(host, pool, slots=[1], host_slots=[0], io_backend="kernel")
    back_up(host, pool, slots=[1], host_slots=[0], io_backend="direct")
