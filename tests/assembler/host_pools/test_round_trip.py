"""Back up, poison the device, load into other slots: only those rows may change, to the old bytes.

Every class of pool, in every layout, with every backend that can move it.
"""

import pytest
import torch

# Written bytes are 1 to 127, so a poisoned byte never looks like a written one.
HOST_POISON, DEVICE_POISON = 0xA5, 0xEE

SOURCE_SLOTS = [4, 5, 6, 7, 12, 13, 14, 15, 16, 17, 18, 19]
HOST_SLOTS = [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3]
TARGET_SLOTS = [20, 21, 22, 23, 8, 9, 10, 11, 12, 13, 14, 15]


def mha(pools, layout):
    pool = pools.mha()
    return pool, pools.mha_host(pool, layout=layout)


def mha_asymmetric(pools, layout):
    pool = pools.mha(v_head_dim=20)
    return pool, pools.mha_host(pool, layout=layout)


def mha_float8(pools, layout):
    pool = pools.mha(dtype=torch.float8_e5m2)
    return pool, pools.mha_host(pool, layout=layout)


def swa(pools, layout):
    pool = pools.swa(size_swa=24).swa_kv_pool
    return pool, pools.mha_host(pool, layout=layout)


def mla(pools, layout):
    pool = pools.mla()
    return pool, pools.mla_host(pool, layout=layout)


def nsa_float8(pools, layout):
    pool = pools.nsa()
    return pool, pools.mla_host(pool, layout=layout, override=656)


def nsa_bfloat16(pools, layout):
    pool = pools.nsa(dtype=torch.bfloat16, kv_cache_dim=576)
    return pool, pools.mla_host(pool, layout=layout)


def indexer(pools, layout):
    pool = pools.nsa()
    return pool, pools.indexer_host(pool, layout=layout)


def mamba(pools, layout):
    pool = pools.mamba()
    return pool, pools.mamba_host(pool, layout=layout)


COMBINATIONS = [
    ("kernel", "layer_first"),
    ("kernel", "page_first"),
    ("direct", "layer_first"),
    ("direct", "page_first_direct"),
]
CASES = [
    pytest.param(build, backend, layout, id=f"{build.__name__}-{backend}-{layout}")
    for build in (
        mha,
        mha_asymmetric,
        mha_float8,
        swa,
        mla,
        nsa_float8,
        nsa_bfloat16,
        indexer,
        mamba,
    )
    for backend, layout in COMBINATIONS
] + [
    pytest.param(build, "kernel", "page_head", id=f"{build.__name__}-kernel-page_head")
    for build in (mha, mha_asymmetric, mha_float8, swa)
]


def device_bytes(pool, host):
    """Return each plane of each layer as ``(rows, row_bytes) uint8`` views."""
    return [
        pool.plane_buffer(plane=plane.name, layer=layer).flatten(1).view(torch.uint8)
        for plane in host.planes
        for layer in range(pool.layer_num)
    ]


def host_buffers(host):
    buffers = [host.plane_buffer(plane.name) for plane in host.planes]
    return [buffer.view(-1).view(torch.uint8) for buffer in buffers]


def rows_of(host, slots):
    """Return device rows, written out for index pages of 4 slots."""
    return [slot // 4 for slot in slots[::4]] if host.slots_per_row == 4 else slots


def placed(pool, backend, slots):
    indices = torch.tensor(slots)
    return pool.device.to_device(indices) if backend == "kernel" else indices


@pytest.mark.parametrize(("build", "backend", "layout"), CASES)
def test_rows_come_back_in_other_slots_and_nothing_else_changes(
    pools_anywhere, build, backend, layout
):
    pool, host = build(pools_anywhere, layout)
    generator = torch.Generator().manual_seed(7)
    for rows in device_bytes(pool, host):
        rows.copy_(torch.randint(1, 128, rows.shape, generator=generator, dtype=torch.uint8))
    for buffer in host_buffers(host):
        buffer.fill_(HOST_POISON)
    before = [rows.cpu().clone() for rows in device_bytes(pool, host)]

    host.backup_from_device_all_layer(
        device_pool=pool,
        host_indices=placed(pool, backend, HOST_SLOTS),
        device_indices=placed(pool, backend, SOURCE_SLOTS),
        io_backend=backend,
    )
    pool.device.synchronize()
    written = sum(int((buffer != HOST_POISON).sum()) for buffer in host_buffers(host))
    assert written == 12 * host.size_per_token
    for rows, old in zip(device_bytes(pool, host), before, strict=True):
        assert torch.equal(rows.cpu(), old)

    for rows in device_bytes(pool, host):
        rows.fill_(DEVICE_POISON)
    backed_up = [buffer.clone() for buffer in host_buffers(host)]
    for layer in range(host.layer_num):
        host.load_to_device_per_layer(
            device_pool=pool,
            host_indices=placed(pool, backend, HOST_SLOTS),
            device_indices=placed(pool, backend, TARGET_SLOTS),
            layer_id=layer,
            io_backend=backend,
        )
    pool.device.synchronize()

    source, target = rows_of(host, SOURCE_SLOTS), rows_of(host, TARGET_SLOTS)
    for rows, old in zip(device_bytes(pool, host), before, strict=True):
        expected = torch.full_like(old, DEVICE_POISON)
        expected[target] = old[source]
        assert torch.equal(rows.cpu(), expected)
    for buffer, old in zip(host_buffers(host), backed_up, strict=True):
        assert torch.equal(buffer, old)


@pytest.mark.parametrize("backend", ["kernel", "direct"])
@pytest.mark.parametrize("build", [mha, mla, mamba])
def test_loading_one_layer_leaves_the_others(pools_anywhere, build, backend):
    pool, host = build(pools_anywhere, "layer_first")
    for buffer in host_buffers(host):
        buffer.fill_(7)
    for rows in device_bytes(pool, host):
        rows.fill_(DEVICE_POISON)

    host.load_to_device_per_layer(
        device_pool=pool,
        host_indices=placed(pool, backend, [2]),
        device_indices=placed(pool, backend, [5]),
        layer_id=1,
        io_backend=backend,
    )
    pool.device.synchronize()

    for plane in host.planes:
        for layer in range(3):
            rows = pool.plane_buffer(plane=plane.name, layer=layer).flatten(1).view(torch.uint8)
            changed = rows.ne(DEVICE_POISON).any(dim=1).nonzero().view(-1).tolist()
            assert changed == ([5] if layer == 1 else [])


@pytest.mark.parametrize("backend", ["kernel", "direct"])
@pytest.mark.parametrize("build", [mha, mla, indexer, mamba])
def test_moving_no_slots_changes_nothing(pools_anywhere, build, backend):
    pool, host = build(pools_anywhere, "layer_first")
    for buffer in host_buffers(host):
        buffer.fill_(HOST_POISON)

    host.backup_from_device_all_layer(
        device_pool=pool,
        host_indices=placed(pool, backend, []).long(),
        device_indices=placed(pool, backend, []).long(),
        io_backend=backend,
    )
    pool.device.synchronize()

    for buffer in host_buffers(host):
        assert buffer.eq(HOST_POISON).all()
