import pytest

from assembler.device import get_device
from assembler.errors import AssemblyError
from assembler.host_pools.mha import MHATokenToKVPoolHost
from assembler.host_pools.mla import MLATokenToKVPoolHost
from assembler.names import PoolName
from assembler.params import ServerArgs
from assembler.stacks import build_kv_host_pool, build_pool_entry
from tests.assembler.small_models import (
    mamba_params,
    mha_pool,
    mla_pool,
    nsa_pool,
    params_of,
    swa_params,
)
from tests.assembler.stacks.builder_calls import mamba, swa

CPU = get_device("cpu")


def host_pool_of(pool, *, use_mla, override=None):
    return build_kv_host_pool(
        kv_pool=pool,
        page_size=4,
        server_args=ServerArgs(),
        use_mla=use_mla,
        override_kv_cache_dim=override,
    )


def test_kinds_of_rows_have_their_own_host_pools():
    assert isinstance(host_pool_of(mha_pool(CPU), use_mla=False), MHATokenToKVPoolHost)
    assert isinstance(host_pool_of(mla_pool(CPU), use_mla=True), MLATokenToKVPoolHost)


def test_override_decides_the_width_of_a_latent_row():
    pool = nsa_pool(CPU)

    assert host_pool_of(pool, use_mla=True, override=656).kv_buffer.shape[-1] == 656
    assert host_pool_of(pool, use_mla=True).kv_buffer.shape[-1] == 576


@pytest.mark.parametrize(("make_pool", "use_mla"), [(mha_pool, True), (mla_pool, False)])
def test_use_mla_that_does_not_suit_the_pool_raises(make_pool, use_mla):
    message = f"KV: use_mla must suit the pool; expected {not use_mla}, got use_mla={use_mla}"
    with pytest.raises(AssemblyError, match=message):
        host_pool_of(make_pool(CPU), use_mla=use_mla)


def test_override_of_keys_and_values_raises():
    with pytest.raises(AssemblyError, match="expected override_kv_cache_dim=None, got 656"):
        host_pool_of(mha_pool(CPU), use_mla=False, override=656)


def test_entry_carries_every_argument():
    pool = mha_pool(CPU)
    functions = {
        "host_evict_fn": lambda n: n,
        "device_evict_fn": lambda n: n,
        "device_alloc_fn": lambda n: None,
        "device_free_fn": lambda indices: None,
    }

    entry = build_pool_entry(
        name=PoolName.SWA,
        host_pool=host_pool_of(pool, use_mla=False),
        device_pool=pool,
        layer_mapping={10: 0, 12: 1},
        start_layer=10,
        transfer_layer_num=2,
        is_anchor=True,
        **functions,
    )

    assert (entry.name, entry.device_pool, entry.is_primary_index_anchor) == ("swa", pool, True)
    assert {key: getattr(entry, key) for key in functions} == functions
    assert [entry.layer_mapper(layer) for layer in (-1, 0, 1, 2)] == [None, 0, None, None]


def test_window_entry_has_the_window_allocator_and_callbacks():
    params, host_evict, device_evict = swa_params(CPU), (lambda n: n), (lambda n: -n)

    group, _ = swa(
        params, arguments={"host_swa_evict_fn": host_evict, "device_swa_evict_fn": device_evict}
    )

    entry = group.entry(PoolName.SWA)
    allocator = params.token_to_kv_pool_allocator.swa_attn_allocator
    assert (entry.host_evict_fn, entry.device_evict_fn) == (host_evict, device_evict)
    assert (entry.device_alloc_fn, entry.device_free_fn) == (allocator.alloc, allocator.free)
    assert entry.device_pool is params.token_to_kv_pool_allocator.get_kvcache().swa_kv_pool
    assert group.anchor_entry.device_alloc_fn is None


def test_state_entry_has_the_state_allocator_and_callbacks():
    params, host_evict, device_evict = mamba_params(CPU), (lambda n: n), (lambda n: -n)

    group, _ = mamba(
        params, arguments={"host_mamba_evict_fn": host_evict, "device_mamba_evict_fn": device_evict}
    )

    entry = group.entry(PoolName.MAMBA)
    allocator = params.req_to_token_pool.mamba_allocator
    assert (entry.host_evict_fn, entry.device_evict_fn) == (host_evict, device_evict)
    assert (entry.device_alloc_fn, entry.device_free_fn) == (allocator.alloc, allocator.free)
    assert entry.device_pool is params.req_to_token_pool.mamba_pool


def test_window_stack_without_a_window_allocator_raises():
    plain = params_of(mha_pool(CPU))
    with pytest.raises(AssemblyError, match="expected SWATokenToKVPoolAllocator, got Paged"):
        swa(swa_params(CPU), arguments={"params": plain})


def test_state_stack_without_a_request_pool_raises():
    params = mamba_params(CPU)
    without = params_of(params.token_to_kv_pool_allocator.get_kvcache())
    with pytest.raises(AssemblyError, match=r"MAMBA: .*expected HybridReqToTokenPool, got none"):
        mamba(params, arguments={"params": without})
