"""Backups to storage and prefetches from it, on host threads of the device."""

import logging

import pytest
import torch

from assembler.errors import AssemblyError
from assembler.groups import LocalGroup
from assembler.names import ComponentType, PoolName
from assembler.storage.hooks import Prefetch, PrefetchResult
from tests.assembler.controller.storage_stack import (
    PAGE,
    anchor_of,
    back_up,
    finish,
    keys_of,
    stack,
    start,
    stored,
    wait_for_backups,
)
from tests.assembler.small_models import (
    mamba_params,
    mha_pool,
    mla_pool,
    nsa_pool,
    params_of,
    swa_params,
)
from tests.assembler.stacks.builder_calls import kv_only, mamba, shared_anchor, swa
from tests.assembler.storage.stores import FailingBlobs, content, equal, slots_of
from traces.targets.common.runtime import open_device

FULL, SWA, MAMBA = ComponentType.FULL, ComponentType.SWA, ComponentType.MAMBA


@pytest.fixture(params=["cpu", "sim"])
def device(request):
    return open_device(request.param)


def test_stored_pages_come_back_into_other_host_slots(device):
    group, controller = stack(device)
    keys = stored(controller)
    kept = [content(anchor_of(group), page * PAGE) for page in range(3)]

    assert controller.storage_tier.hit_pages(keys_of(controller, 5)) == 3
    assert start(controller, keys, full=slots_of(9, 8, 10))
    result = finish(controller)
    controller.shutdown()

    assert result == PrefetchResult(page_num=3, components=frozenset())
    for page, expected in zip((9, 8, 10), kept, strict=True):
        assert equal(content(anchor_of(group), page * PAGE), expected)


def test_pages_of_a_pool_on_the_anchors_slots_move_along(device):
    group, controller = stack(device, shared_anchor, params_of(nsa_pool(device)))
    index = group.get_pool(PoolName.INDEXER)
    keys = stored(controller, 2)
    kept = content(index, PAGE)

    start(controller, keys, full=slots_of(8, 9))
    assert finish(controller).page_num == 2
    assert equal(content(index, 9 * PAGE), kept)

    blobs = controller.storage_tier.storage.blobs
    blobs.remove(controller.storage_tier.storage.page_name(PoolName.INDEXER, keys[1]))
    start(controller, keys, full=slots_of(8, 9))
    assert finish(controller).page_num == 1
    controller.shutdown()


def test_a_window_is_stored_with_its_last_pages_and_comes_back_for_them_only(device):
    group, controller = stack(device, swa, swa_params(device))
    window, keys = group.get_pool(PoolName.SWA), keys_of(controller, 4)
    back_up(controller, keys, full=slots_of(0, 1, 2, 3), swa=slots_of(5, 6))
    wait_for_backups(controller)
    kept = content(window, 6 * PAGE)

    start(controller, keys, full=slots_of(8, 9, 10, 11), swa=slots_of(2, 3))
    assert finish(controller) == PrefetchResult(page_num=4, components=frozenset({SWA}))
    assert equal(content(window, 3 * PAGE), kept)

    start(controller, keys[:3], full=slots_of(8, 9, 10), swa=slots_of(2, 3))
    assert finish(controller).page_num == 0
    controller.shutdown()


def test_a_state_is_stored_under_the_key_of_the_last_page(device):
    group, controller = stack(device, mamba, mamba_params(device))
    states, keys = group.get_pool(PoolName.MAMBA), keys_of(controller, 2)
    back_up(controller, keys, full=slots_of(0, 1), mamba=torch.tensor([3]))
    wait_for_backups(controller)
    kept = content(states, 3)

    start(controller, [*keys, "00"], full=slots_of(8, 9, 10), mamba=torch.tensor([6]))

    assert finish(controller) == PrefetchResult(page_num=2, components=frozenset({MAMBA}))
    assert equal(content(states, 6), kept)
    controller.shutdown()


@pytest.mark.parametrize(("rank", "kv_pages", "states"), [(0, 2, 1), (1, 0, 1)])
def test_latent_rows_are_written_by_one_rank_and_states_by_every_rank(
    cpu, folder, rank, kv_pages, states
):
    params = mamba_params(cpu, full_pool=mla_pool(cpu))
    ranks = LocalGroup("tp", (0, 1), rank)
    _, controller = stack(cpu, mamba, params, ranks=ranks)
    keys = keys_of(controller, 2)
    back_up(controller, keys, full=slots_of(0, 1), mamba=torch.tensor([3]))
    assert wait_for_backups(controller) == [7]
    controller.shutdown()

    files = [path.parent.name for path in folder.rglob("*.page")]
    assert sum(name.startswith("kv.") for name in files) == kv_pages
    assert sum(name.startswith("mamba.") for name in files) == states


def test_namespaces_and_prefixes_set_keys_apart(cpu):
    _, controller = stack(cpu)
    tier = controller.storage_tier
    plain = tier.page_keys([1, 2, 3, 4, 5, 6, 7, 8], prior=None, namespace=None)
    tenant = tier.page_keys([1, 2, 3, 4, 5, 6, 7, 8], prior=None, namespace="a")

    assert not set(plain) & set(tenant)
    assert tier.page_keys([5, 6, 7, 8], prior=tenant[0], namespace="b") == tenant[1:]
    controller.shutdown()


def test_what_is_shorter_than_the_threshold_is_refused(device):
    _, controller = stack(device, threshold=2 * PAGE)
    keys = stored(controller)

    assert not start(controller, keys[:1], full=slots_of(8))
    assert start(controller, keys[:2], full=slots_of(8, 9))
    assert finish(controller).page_num == 2
    controller.shutdown()


def test_a_hit_below_the_threshold_fetches_nothing(device):
    group, controller = stack(device, threshold=2 * PAGE)
    keys = stored(controller, 1)
    before = content(anchor_of(group), 8 * PAGE)

    start(controller, [*keys, "00", "11"], full=slots_of(8, 9, 10))

    assert finish(controller).page_num == 0
    assert equal(content(anchor_of(group), 8 * PAGE), before)
    controller.shutdown()


def test_prefetches_beyond_the_capacity_are_refused(device):
    _, controller = stack(device)
    keys, tier = stored(controller), controller.storage_tier
    assert tier.prefetch_capacity_limit == int(0.8 * (controller.mem_pool_host.size - 64))
    tier.prefetch_capacity_limit = PAGE

    assert start(controller, keys[:1], full=slots_of(8))
    second = Prefetch(request_id="s", keys=tuple(keys), prefix_keys=(), host={FULL: slots_of(9)})
    assert not tier.start_prefetch(second)
    finish(controller)
    assert tier.prefetch_tokens_occupied == 0
    assert tier.start_prefetch(second)
    controller.shutdown()


def test_storage_can_be_detached_and_attached_again(device):
    _, controller = stack(device)
    keys = stored(controller)
    with pytest.raises(AssemblyError, match=r"storage: must be detached first; .*, got file"):
        controller.attach_storage_backend("file", model_name="lab/model")

    controller.detach_storage_backend()
    assert (controller.storage_tier, controller.storage_backend) == (None, None)
    options = {"prefetch_policy": "wait_complete"}
    controller.attach_storage_backend("file", PAGE, "lab/model", options)

    start(controller, keys, full=slots_of(8, 9, 10))
    assert finish(controller).page_num == 3
    controller.shutdown()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("disk", 4, "m", None), r"storage backend: must be known; expected file.*, got 'disk'"),
        (("file", 4, None, None), r"storage: needs the model's name.*; expected model_name"),
        (("file", 4, "m", {"prefetch_policy": "never"}), r"prefetch_policy: .*, got 'never'"),
        (("file", 4, "m", {"prefetch_timeout_max": "1"}), r"prefetch_timeout_max: .*, got '1'"),
    ],
)
def test_storage_that_cannot_be_attached_changes_nothing(cpu, arguments, message):
    _, controller = kv_only(params_of(mha_pool(cpu)))
    with pytest.raises(AssemblyError, match=message):
        controller.attach_storage_backend(*arguments)

    assert (controller.storage_tier, controller.storage_backend) == (None, None)
    controller.attach_storage_backend("file", 4, "m", None)
    controller.shutdown()


def test_an_option_that_nothing_reads_is_told(cpu, caplog):
    caplog.set_level(logging.INFO)
    _, controller = stack(cpu, speed=1, prefetch_timeout_max=3)
    controller.shutdown()
    assert "storage option speed is not one of this backend and is not used" in caplog.text
    assert "prefetch_timeout_max" not in caplog.text


def test_a_store_that_fails_is_a_miss_for_the_caller(cpu, caplog):
    _, controller = stack(cpu)
    keys = stored(controller)
    controller.storage_tier.storage.blobs = blobs = FailingBlobs()
    blobs.fail("exists")

    start(controller, keys, full=slots_of(8, 9, 10))

    assert finish(controller).page_num == 0
    assert "the page counts as missing: store: must answer" in caplog.text
    controller.shutdown()
