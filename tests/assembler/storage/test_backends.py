"""What every backend must do; each test runs on each backend."""

import pytest
import torch

from assembler.device import get_device
from assembler.errors import AssemblyError, TransferError
from assembler.host_pools.group import PoolTransfer
from assembler.host_pools.indexer import NSAIndexerPoolHost
from assembler.names import PoolHitPolicy, PoolName
from assembler.storage import open_storage
from assembler.storage.files import FileBlobs
from assembler.storage.interface import HiCacheStorageExtraInfo
from assembler.storage.mooncake import MooncakeBlobs
from tests.assembler.small_models import mla_pool
from tests.assembler.storage.stores import (
    NOTHING,
    FailingBlobs,
    config_of,
    content,
    equal,
    fill,
    hashes_of,
    host_pool,
    opened,
    slots_of,
)


@pytest.fixture(params=["file", "memory", "mooncake"])
def blobs(request, tmp_path):
    if request.param == "mooncake":
        store = MooncakeBlobs(request.getfixturevalue("mooncake_options"))
        store.clear()
        yield store
        store.close()
    else:
        yield FileBlobs(tmp_path) if request.param == "file" else FailingBlobs()


@pytest.mark.parametrize("layout", ["layer_first", "page_first", "page_first_direct", "page_head"])
def test_pages_come_back_into_other_slots_with_their_bytes(blobs, layout):
    source, target = host_pool(layout=layout), host_pool(layout=layout)
    fill(source, 1)
    fill(target, 2)
    untouched = content(target, 12)
    hashes = hashes_of(2)

    assert opened(blobs, source).batch_set_v1(hashes, slots_of(0, 5), NOTHING) == [True, True]
    arrived = opened(blobs, target).batch_get_v1(hashes, slots_of(7, 2), NOTHING)

    assert arrived == [True, True]
    assert equal(content(target, 28), content(source, 0))
    assert equal(content(target, 8), content(source, 20))
    assert equal(content(target, 12), untouched)


def test_what_was_never_stored_is_missing_and_changes_no_byte(blobs):
    pool = host_pool()
    fill(pool, 1)
    before = content(pool, 0)
    storage = opened(blobs, pool)

    assert not storage.exists(hashes_of(1)[0])
    assert storage.batch_get_v1(hashes_of(1), slots_of(0), NOTHING) == [False]
    assert equal(content(pool, 0), before)


def test_a_hit_ends_at_the_first_missing_page(blobs):
    pool = host_pool()
    fill(pool, 1)
    storage, hashes = opened(blobs, pool), hashes_of(4)
    storage.batch_set_v1([hashes[0], hashes[1], hashes[3]], slots_of(0, 1, 3), NOTHING)

    assert storage.batch_exists(hashes, NOTHING) == 2
    assert [storage.exists(one) for one in hashes] == [True, True, False, True]


def test_a_page_that_is_there_is_not_written_again(blobs):
    pool = host_pool()
    fill(pool, 1)
    storage, hashes = opened(blobs, pool), hashes_of(1)
    storage.batch_set_v1(hashes, slots_of(0), NOTHING)
    first = content(pool, 0)

    assert storage.batch_set_v1(hashes, slots_of(1), NOTHING) == [True]
    storage.batch_get_v1(hashes, slots_of(2), NOTHING)

    assert equal(content(pool, 8), first)
    assert storage.get_stats().stored == 1


def test_clear_removes_every_page(blobs):
    pool = host_pool()
    fill(pool, 1)
    storage = opened(blobs, pool)
    storage.batch_set_v1(hashes_of(2), slots_of(0, 1), NOTHING)
    assert storage.batch_exists(hashes_of(2), NOTHING) == 2

    storage.clear()

    assert storage.batch_exists(hashes_of(2), NOTHING) == 0


@pytest.mark.parametrize(
    ("change", "is_shared"),
    [
        ({}, True),
        ({"tp_rank": 2}, False),
        ({"tp_size": 8}, False),
        ({"pp_rank": 1, "pp_size": 2}, False),
        ({"attn_cp_rank": 1, "attn_cp_size": 2}, False),
        ({"model_name": "lab-model"}, False),
    ],
)
def test_ranks_and_models_do_not_see_each_others_pages(blobs, change, is_shared):
    pool = host_pool()
    fill(pool, 1)
    opened(blobs, pool).batch_set_v1(hashes_of(1), slots_of(0), NOTHING)

    other = opened(blobs, pool, **change)

    assert other.exists(hashes_of(1)[0]) is is_shared
    assert other.batch_get_v1(hashes_of(1), slots_of(1), NOTHING) == [is_shared]


@pytest.mark.parametrize("change", [{"layout": "page_first"}, {"head_dim": 16}])
def test_pages_of_another_layout_or_row_width_are_other_pages(blobs, change):
    pool = host_pool()
    fill(pool, 1)
    opened(blobs, pool).batch_set_v1(hashes_of(1), slots_of(0), NOTHING)

    assert opened(blobs, host_pool()).exists(hashes_of(1)[0])
    assert not opened(blobs, host_pool(**change)).exists(hashes_of(1)[0])


def test_latent_rows_are_shared_by_the_ranks_that_all_have_them(blobs, pools):
    pool = pools.mla_host(mla_pool(get_device("cpu")))
    fill(pool, 1)
    opened(blobs, pool, tp_rank=0).batch_set_v1(hashes_of(1), slots_of(0), NOTHING)

    assert opened(blobs, pool, tp_rank=3).exists(hashes_of(1)[0])
    assert not opened(blobs, pool, tp_rank=3, pp_rank=1, pp_size=2).exists(hashes_of(1)[0])


def test_a_prefix_needs_every_page_of_one_pool_and_the_last_ones_of_another(blobs):
    pool, hashes = host_pool(), hashes_of(6)
    storage = opened(blobs, pool)
    for name in (PoolName.INDEXER, PoolName.SWA):
        storage.register_mem_host_pool_v2(pool, name)
    storage.batch_set_v1(hashes[:5], slots_of(0, 1, 2, 3, 4), NOTHING)
    stored = {PoolName.INDEXER: hashes[:4], PoolName.SWA: [hashes[1], hashes[2], hashes[4]]}
    for name, keys in stored.items():
        slots = slots_of(*range(len(keys)))
        storage.batch_set_v2([PoolTransfer(name=name, host_indices=slots, keys=keys)], NOTHING)
    window = PoolTransfer(name=PoolName.SWA, keys=["", ""], hit_policy=PoolHitPolicy.TRAILING_PAGES)

    found = storage.batch_exists_v2(hashes, [PoolTransfer(name=PoolName.INDEXER), window], NOTHING)

    assert found.kv_hit_pages == 5
    assert found.extra_pool_hit_pages == {PoolName.INDEXER: 4, PoolName.SWA: 3}
    assert found.restorable_pages == (3,)


def test_a_window_reaches_back_to_the_pages_before_the_keys(blobs):
    pool, hashes = host_pool(), hashes_of(3)
    storage = opened(blobs, pool)
    storage.register_mem_host_pool_v2(pool, PoolName.SWA)
    storage.batch_set_v1(hashes, slots_of(0, 1, 2), NOTHING)
    window = PoolTransfer(name=PoolName.SWA, keys=["", ""], hit_policy=PoolHitPolicy.TRAILING_PAGES)
    later = PoolTransfer(name=PoolName.SWA, host_indices=slots_of(0, 1), keys=hashes[1:])
    storage.batch_set_v2([later], NOTHING)

    behind_one = HiCacheStorageExtraInfo(prefix_keys=(hashes[0],))
    assert storage.batch_exists_v2(hashes[1:], [window], behind_one).restorable_pages == (2,)
    first = PoolTransfer(name=PoolName.SWA, host_indices=slots_of(0), keys=hashes[:1])
    storage.batch_set_v2([first], NOTHING)
    assert storage.batch_exists_v2(hashes[1:], [window], behind_one).restorable_pages == (1, 2)


def test_a_window_is_wider_than_the_pages_before_the_keys(blobs):
    pool, hashes = host_pool(), hashes_of(5)
    storage = opened(blobs, pool)
    storage.register_mem_host_pool_v2(pool, PoolName.SWA)
    storage.batch_set_v1(hashes, slots_of(0, 1, 2, 3, 4), NOTHING)
    keys = [""] * 5
    window = PoolTransfer(name=PoolName.SWA, keys=keys, hit_policy=PoolHitPolicy.TRAILING_PAGES)
    behind_three = HiCacheStorageExtraInfo(prefix_keys=tuple(hashes[:3]))
    later = PoolTransfer(name=PoolName.SWA, host_indices=slots_of(1, 2, 3, 4), keys=hashes[1:])
    storage.batch_set_v2([later], NOTHING)

    # All five pages are in the window, and the first one is missing.
    assert storage.batch_exists_v2(hashes[3:], [window], behind_three).restorable_pages == ()
    first = PoolTransfer(name=PoolName.SWA, host_indices=slots_of(0), keys=hashes[:1])
    storage.batch_set_v2([first], NOTHING)
    assert storage.batch_exists_v2(hashes[3:], [window], behind_three).restorable_pages == (1, 2)


def test_a_transfer_without_keys_needs_the_last_page_and_moves_none(blobs):
    pool, hashes = host_pool(), hashes_of(2)
    storage = opened(blobs, pool)
    storage.register_mem_host_pool_v2(pool, PoolName.MAMBA)
    storage.batch_set_v1(hashes, slots_of(0, 1), NOTHING)
    last = PoolTransfer(name=PoolName.MAMBA, host_indices=slots_of(1), keys=hashes[1:])
    storage.batch_set_v2([last], NOTHING)
    state = PoolTransfer(name=PoolName.MAMBA, hit_policy=PoolHitPolicy.TRAILING_PAGES)

    assert storage.batch_exists_v2(hashes, [state], NOTHING).restorable_pages == (2,)
    assert storage.batch_get_v2([state], NOTHING) == {PoolName.MAMBA: []}


def test_transfers_of_several_pools_answer_by_pool(blobs, pools):
    device_pool = pools.nsa()
    anchor, index = pools.mla_host(device_pool, override=656), pools.indexer_host(device_pool)
    assert isinstance(index, NSAIndexerPoolHost)
    fill(anchor, 1)
    fill(index, 2)
    storage, hashes = opened(blobs, anchor), hashes_of(2)
    storage.register_mem_host_pool_v2(index, PoolName.INDEXER)
    pages = [
        PoolTransfer(name=name, host_indices=slots_of(0, 1), keys=hashes)
        for name in (PoolName.KV, PoolName.INDEXER)
    ]
    assert storage.batch_set_v2(pages[1:], NOTHING) == {PoolName.INDEXER: [True, True]}
    kept = content(index, 4)

    for page in pages:
        page.host_indices = slots_of(3, 4)
    arrived = storage.batch_get_v2(pages, NOTHING)

    assert arrived == {PoolName.KV: [False, False], PoolName.INDEXER: [True, True]}
    assert equal(content(index, 16), kept)


def test_slots_that_are_not_a_page_for_each_key_raise(blobs):
    storage = opened(blobs, host_pool())
    with pytest.raises(TransferError, match=r"KV: every key must have a page .* 8, got 4"):
        storage.batch_get_v1(hashes_of(2), slots_of(0), NOTHING)


def test_a_pool_that_is_not_registered_raises(blobs):
    storage = opened(blobs, host_pool())
    transfer = PoolTransfer(name=PoolName.SWA, host_indices=torch.empty(0), keys=["00"])
    with pytest.raises(TransferError, match=r"SWA: a pool must be registered .*, got swa"):
        storage.batch_get_v2([transfer], NOTHING)


def test_counts_are_kept_where_metrics_are_on(blobs):
    pool = host_pool()
    fill(pool, 1)
    storage = opened(blobs, pool)
    storage.batch_set_v1(hashes_of(2), slots_of(0, 1), NOTHING)
    storage.batch_get_v1(hashes_of(3), slots_of(2, 3, 4), NOTHING)

    stats = storage.get_stats()

    assert (stats.stored, stats.fetched, stats.missing) == (2, 2, 1)
    assert (stats.refused, stats.failed) == (0, 0)
    assert opened(blobs, pool, enable_storage_metrics=False).get_stats() is None


def test_an_unknown_backend_is_refused():
    with pytest.raises(AssemblyError, match=r"storage backend: must be known; .*, got 'disk'"):
        open_storage("disk", config_of())


def test_the_file_backend_takes_its_folder_from_the_variable_first(tmp_path, monkeypatch):
    option = {"file_storage_path": str(tmp_path / "option")}
    by_option = open_storage("file", config_of(extra_config=option))
    assert by_option.blobs.folder == tmp_path / "option"

    monkeypatch.setenv("GOLDENTRACE_STORAGE_DIR", str(tmp_path / "variable"))
    by_variable = open_storage("file", config_of(extra_config=option))
    assert by_variable.blobs.folder == tmp_path / "variable"
