"""What every builder does with its arguments."""

import inspect
import threading

import pytest

import assembler
from assembler.device import get_device
from assembler.groups import LocalGroup
from assembler.names import PoolName
from tests.assembler.small_models import mamba_params, mha_pool, nsa_pool, params_of, swa_params
from tests.assembler.stacks.builder_calls import kv_only, mamba, shared_anchor, swa

CPU = get_device("cpu")

BUILDERS = {
    "kv_only": (kv_only, lambda: params_of(mha_pool(CPU))),
    "shared_anchor": (shared_anchor, lambda: params_of(nsa_pool(CPU))),
    "swa": (swa, lambda: swa_params(CPU)),
    "mamba": (mamba, lambda: mamba_params(CPU)),
}
every_builder = pytest.mark.parametrize("name", BUILDERS)


@every_builder
def test_builder_passes_everything_to_the_controller(name):
    """Every value differs from its default and from its siblings."""
    build, make_params = BUILDERS[name]
    groups = {
        tag: LocalGroup(tag, (0, 1), 1) for tag in ("tp_group", "attn_cp_group", "attn_tp_group")
    }
    groups["pp_group"] = LocalGroup("pp_group", (1, 3, 5, 7, 9), 3)
    passed = {
        **groups,
        "load_cache_event": threading.Event(),
        "storage_backend": "file",
        "prefetch_threshold": 771,
        "model_name": "sentinel",
        "storage_backend_extra_config": {"prefetch_timeout_max": 1},
        "pp_rank": 3,
        "pp_size": 5,
        "enable_storage_metrics": True,
    }

    group, controller = build(
        make_params(),
        arguments=passed,
        hicache_write_policy="write_back",
        hicache_io_backend="direct",
    )

    assert {key: getattr(controller, key) for key in passed} == passed
    assert (controller.write_policy, controller.io_backend) == ("write_back", "direct")
    assert (controller.mem_pool_host, controller.page_size) == (group, 4)


@every_builder
def test_every_host_pool_follows_the_server_arguments(name):
    build, make_params = BUILDERS[name]

    group, _ = build(
        make_params(),
        hicache_ratio=3.0,
        hicache_mem_layout="page_first_direct",
        hicache_io_backend="direct",
        hicache_storage_backend="mooncake",
    )

    pools = [entry.host_pool for entry in group.entries]
    assert group.size == 3 * 64 + 4
    assert {pool.layout for pool in pools} == {"page_first_direct"}
    assert all(pool.pin_memory for pool in pools)
    kv = group.anchor_entry.host_pool
    assert kv.allocator_type == "mooncake"


@every_builder
def test_host_size_in_gigabytes_wins_over_the_ratio(name):
    build, make_params = BUILDERS[name]

    group, _ = build(make_params(), hicache_size=0.01)

    kv = group.get_pool(PoolName.KV)
    assert kv.size == 10_000_000 // kv.size_per_token // 4 * 4 + 4


@every_builder
def test_defaults_of_the_public_signature(name):
    builder = {
        "kv_only": assembler.build_kv_only_stack,
        "shared_anchor": assembler.build_shared_anchor_stack,
        "swa": assembler.build_hybrid_swa_stack,
        "mamba": assembler.build_hybrid_mamba_stack,
    }[name]
    parameters = inspect.signature(builder).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    own = {
        "kv_only": ["override_kv_cache_dim"],
        "shared_anchor": ["override_kv_cache_dim"],
        "swa": ["host_swa_evict_fn", "device_swa_evict_fn"],
        "mamba": ["host_mamba_evict_fn", "device_mamba_evict_fn"],
    }[name]

    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)
    assert defaults == {
        "attn_cp_group": None,
        "attn_tp_group": None,
        "pp_group": None,
        "prefetch_threshold": 256,
        "model_name": None,
        "storage_backend_extra_config": None,
        "pp_rank": 0,
        "pp_size": 1,
        "enable_storage_metrics": False,
        **dict.fromkeys(own),
    }
    assert not {"attn_cp_rank", "attn_cp_size"} & {p.name for p in parameters}


@every_builder
def test_device_pool_waits_on_the_controllers_counter(name):
    build, make_params = BUILDERS[name]
    params = make_params()

    _, controller = build(params)

    pool = params.token_to_kv_pool_allocator.get_kvcache()
    assert pool.layer_transfer_counter is controller.layer_done_counter
    assert controller.layer_done_counter.layer_num == controller.layer_num
