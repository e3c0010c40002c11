"""Every layer of every pool is loaded, whatever its id: gaps, later stages, both kinds at once."""

import pytest
import torch

from assembler.device import get_device
from assembler.errors import AssemblyError
from assembler.host_pools.group import PoolTransfer
from assembler.names import PoolName
from tests.assembler.small_models import (
    fill,
    mamba_params,
    mha_pool,
    params_of,
    poison,
    snapshot,
    swa_params,
)
from tests.assembler.stacks.builder_calls import kv_only, mamba, swa

CPU = get_device("cpu")


def mapped(group, controller):
    """Return the local layer of each stage-local layer, by pool."""
    layers = range(controller.layer_num)
    return {entry.name: [entry.layer_mapper(i) for i in layers] for entry in group.entries}


@pytest.mark.parametrize("start_layer", [0, 31])
def test_plain_stack_counts_from_the_stages_first_layer(start_layer):
    group, controller = kv_only(params_of(mha_pool(CPU, start_layer=start_layer)))

    assert mapped(group, controller) == {PoolName.KV: [0, 1, 2]}
    assert group.anchor_entry.layer_mapper(-1) is None
    assert group.anchor_entry.layer_mapper(3) is None


def test_window_stack_maps_layers_to_their_pool():
    group, controller = swa(swa_params(CPU))

    assert mapped(group, controller) == {
        PoolName.KV: [None, 0, None, 1, None],
        PoolName.SWA: [0, None, 1, None, 2],
    }


@pytest.mark.parametrize("start_layer", [0, 26])
def test_state_stack_reaches_the_last_id_despite_gaps(start_layer):
    """Two full and three state layers span seven ids; counting layers would stop at five."""
    group, controller = mamba(mamba_params(CPU, start_layer=start_layer))

    assert mapped(group, controller) == {
        PoolName.KV: [None, 0, None, None, 1, None, None],
        PoolName.MAMBA: [0, None, None, 1, None, None, 2],
    }


def test_layer_may_have_attention_and_state():
    """As in Falcon-H1: layer 6 of this model is in both mappings."""
    params = mamba_params(CPU, full_pool=mha_pool(CPU, layer_num=3))
    group, controller = mamba(params)

    assert mapped(group, controller) == {
        PoolName.KV: [None, 0, None, None, 1, None, 2],
        PoolName.MAMBA: [0, None, None, 1, None, None, 2],
    }


@pytest.mark.parametrize("mapping", [{}, {30: 0, 31: 1, 32: 2}])
def test_mapping_outside_the_stage_raises(mapping):
    params = params_of(mha_pool(CPU, start_layer=31))
    with pytest.raises(AssemblyError, match="mapped layers must belong to the pipeline stage"):
        kv_only(params, arguments={"full_layer_mapping": mapping})


def test_later_stage_with_gaps_restores_every_byte():
    params = mamba_params(CPU, start_layer=26)
    _, controller = mamba(params)
    kv_pool = params.token_to_kv_pool_allocator.get_kvcache().full_kv_pool
    state_pool = params.req_to_token_pool.mamba_pool
    for pool in (kv_pool, state_pool):
        fill(pool, 3)
    written = snapshot(kv_pool), snapshot(state_pool)
    slots = params.token_to_kv_pool_allocator.alloc(4)
    state = params.req_to_token_pool.mamba_allocator.alloc(1)
    fill(state_pool, 3)
    backup = PoolTransfer(PoolName.MAMBA, device_indices=state)
    host_slots = controller.write(slots, extra_pools=[backup])
    for pool in (kv_pool, state_pool):
        poison(pool)

    load = PoolTransfer(PoolName.MAMBA, host_indices=backup.host_indices)
    new_slots = controller.load(host_slots, extra_pools=[load])
    controller.start_loading()

    pairs = ((kv_pool, slots, new_slots), (state_pool, state, load.device_indices))
    for (pool, old, new), before in zip(pairs, written, strict=True):
        assert not set(old.tolist()) & set(new.tolist())
        for key, rows in snapshot(pool).items():
            assert torch.equal(rows[new], before[key][old])
            rows[new] = 0xEE
            assert bool(rows.eq(0xEE).all())
