"""A draft model travels with the anchor."""

import pytest
import torch

from assembler.errors import AssemblyError
from assembler.names import PoolName
from assembler.params import ServerArgs
from assembler.stacks import build_kv_host_pool
from tests.assembler.controller.slots import SOURCE, TARGET, read_all, take
from tests.assembler.small_models import fill, mha_pool, nsa_pool, params_of, poison, snapshot
from tests.assembler.stacks.builder_calls import kv_only, shared_anchor


def draft_of(device, params, group, *, layer_num=2, head_dim=8):
    """Return a draft device pool and a host pool on the anchor's slots."""
    pool = mha_pool(device, layer_num=layer_num, head_dim=head_dim)
    host_pool = build_kv_host_pool(
        kv_pool=pool,
        page_size=4,
        server_args=ServerArgs(hicache_ratio=group.size / pool.size),
        use_mla=False,
        override_kv_cache_dim=None,
    )
    return pool, host_pool


def test_draft_travels_both_ways_on_the_anchors_slots(delayed):
    """Scenario: sglang #27953, where the hybrid controller copied no draft at all."""
    params = params_of(mha_pool(delayed))
    group, controller = kv_only(params)
    draft, draft_host = draft_of(delayed, params, group)
    controller.set_draft_kv_pool(draft, draft_host)
    fill(draft, 7)
    written = snapshot(draft)

    host_slots = controller.write(take(params, SOURCE))
    controller.ack_write_queue[0].finish_event.synchronize()
    poison(draft)
    controller.load(host_slots)
    controller.layer_done_counter.set_consumer(controller.start_loading())

    for key, rows in read_all(delayed, draft).items():
        assert torch.equal(rows[TARGET], written[key][SOURCE])
        rows[TARGET] = 0xEE
        assert bool(rows.eq(0xEE).all())


def test_stack_without_draft_copies_none(delayed):
    """Control of the test above."""
    params = params_of(mha_pool(delayed))
    group, controller = kv_only(params)
    _, draft_host = draft_of(delayed, params, group)
    draft_host.kv_buffer.fill_(0)

    controller.write(take(params, SOURCE))
    delayed.synchronize()

    assert not draft_host.kv_buffer.any()


def test_draft_with_more_layers_than_a_load_raises(delayed):
    params = params_of(mha_pool(delayed))
    group, controller = kv_only(params)
    draft, draft_host = draft_of(delayed, params, group, layer_num=4)
    with pytest.raises(
        AssemblyError, match=r"DRAFT: every draft layer.*expected 3 layers or fewer"
    ):
        controller.set_draft_kv_pool(draft, draft_host)


def test_draft_host_of_another_width_raises(delayed):
    params = params_of(mha_pool(delayed))
    group, controller = kv_only(params)
    _, draft_host = draft_of(delayed, params, group)
    wide, _ = draft_of(delayed, params, group, head_dim=16)
    message = "DRAFT k: host row must equal device row; expected 64 bytes, got 32"
    with pytest.raises(AssemblyError, match=message):
        controller.set_draft_kv_pool(wide, draft_host)


def test_draft_host_smaller_than_the_anchors_raises(delayed):
    params = params_of(mha_pool(delayed))
    group, controller = kv_only(params, hicache_ratio=4.0)
    draft, _ = draft_of(delayed, params, group)
    _, small_host = draft_of(delayed, params, kv_only(params)[0])
    with pytest.raises(AssemblyError, match="every anchor slot; expected 260 slots or more"):
        controller.set_draft_kv_pool(draft, small_host)


def test_sparse_draft_with_an_unmirrored_index_raises(delayed):
    params = params_of(nsa_pool(delayed))
    _, controller = shared_anchor(params)
    draft_host = controller.mem_pool_host.get_pool(PoolName.KV)
    message = "DRAFT INDEXER: declared device buffer must have a host pool; expected a pool, got"
    with pytest.raises(AssemblyError, match=message):
        controller.set_draft_kv_pool(nsa_pool(delayed), draft_host)
