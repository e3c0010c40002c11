from dataclasses import replace

import pytest
import torch

from assembler.device import get_device
from assembler.errors import AssemblyError
from assembler.geometry import PlaneGeometry
from assembler.host_pools.group import HostPoolGroup, PoolEntry
from assembler.names import PoolName
from assembler.stacks.parts import mirrored_pools
from assembler.validation import validate_stack, validation_disabled
from tests.assembler.small_models import (
    mamba_params,
    mha_pool,
    mla_pool,
    nsa_pool,
    params_of,
    swa_params,
)
from tests.assembler.stacks.builder_calls import kv_only, mamba, shared_anchor, swa

CPU = get_device("cpu")


def nsa_params(**settings):
    return params_of(nsa_pool(CPU, **settings))


def message_of(call, *arguments, **settings):
    with pytest.raises(AssemblyError) as caught:
        call(*arguments, **settings)
    return str(caught.value)


@pytest.mark.parametrize("build", [kv_only, shared_anchor])
def test_dropped_override_of_float8_rows_raises(build):
    """Scenario of #25022: the keyword is lost between the attach function and the host pool."""
    message = message_of(build, nsa_params(), arguments={"override_kv_cache_dim": None})

    assert message == "KV: host row must equal device row; expected 656 bytes, got 576"


def test_dropped_override_of_bfloat16_rows_changes_nothing():
    """Control: 512 + 64 = 576 elements is the device's width anyway."""
    shared_anchor(nsa_params(fp8=False), arguments={"override_kv_cache_dim": None})


def test_override_that_the_device_does_not_have_raises():
    params = params_of(mla_pool(CPU))

    message = message_of(kv_only, params, arguments={"override_kv_cache_dim": 656})

    assert message == "KV: host row must equal device row; expected 1152 bytes, got 1312"


def test_opened_walls_let_the_narrow_host_through():
    with validation_disabled():
        group, _ = shared_anchor(nsa_params(), arguments={"override_kv_cache_dim": None})

    assert group.get_pool(PoolName.KV).kv_buffer.shape[-1] == 576


def test_declared_index_without_host_pool_raises():
    message = message_of(kv_only, nsa_params())

    assert message == (
        "INDEXER: declared device buffer must have a host pool; expected an entry, got none"
    )


def test_declared_window_pool_without_host_pool_raises():
    params = swa_params(CPU)
    pool = params.token_to_kv_pool_allocator.get_kvcache().full_kv_pool
    arguments = {"kv_pool": pool, "full_layer_mapping": {1: 0, 3: 1}}

    assert message_of(kv_only, params, arguments=arguments).startswith("SWA: declared device")


def test_declared_states_without_host_pool_raise():
    params = mamba_params(CPU)
    pool = params.token_to_kv_pool_allocator.get_kvcache().full_kv_pool
    arguments = {"kv_pool": pool, "full_layer_mapping": {1: 0, 4: 1}}

    assert message_of(kv_only, params, arguments=arguments).startswith("MAMBA: declared device")


def test_host_pool_of_something_undeclared_raises():
    message = message_of(
        shared_anchor, nsa_params(), arguments={"shared_pool_name": PoolName.DRAFT}
    )

    assert message.startswith("INDEXER: declared device buffer must have a host pool")


def test_sidecar_of_an_undeclared_name_is_surplus():
    params = params_of(mha_pool(CPU))
    pool = params.token_to_kv_pool_allocator.get_kvcache()
    group, _ = kv_only(params)
    surplus = replace(group.anchor_entry, name=PoolName.SWA, is_primary_index_anchor=False)

    message = message_of(
        validate_stack,
        group=HostPoolGroup([group.anchor_entry, surplus]),
        declared=[one.geometry for one in pool.mirrored()],
        page_size=4,
        transfer_layer_num=3,
    )

    assert message == (
        "SWA: a host pool must have a declared device buffer; expected one of KV, got SWA"
    )


def test_layer_left_out_of_the_mapping_raises():
    message = message_of(
        kv_only, params_of(mha_pool(CPU)), arguments={"full_layer_mapping": {0: 0, 2: 2}}
    )

    assert message == "KV: a load must reach every layer once; expected [0, 1, 2], got [0, 2]"


def test_layer_mapped_twice_raises():
    message = message_of(
        kv_only, params_of(mha_pool(CPU)), arguments={"full_layer_mapping": {0: 0, 1: 1, 2: 1}}
    )

    assert message == "KV: a load must reach every layer once; expected [0, 1, 2], got [0, 1, 1]"


def test_page_size_that_is_not_the_host_pools_raises():
    params = params_of(mha_pool(CPU))
    group, _ = kv_only(params)

    message = message_of(
        validate_stack,
        group=group,
        declared=[one.geometry for one in mirrored_pools(params)],
        page_size=8,
        transfer_layer_num=3,
    )

    assert message == "group: host pages must be the controller's; expected 8 tokens, got 4"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"planes": ()},
            "KV: host planes must be the device's; expected [], got ['k', 'v']",
        ),
        (
            {"layer_num": 5},
            "KV: host layers must equal device layers; expected 5, got 3",
        ),
        (
            {"slots_per_row": 4},
            "KV: a host row must serve the device's slots; expected 4, got 1",
        ),
    ],
)
def test_pool_that_is_not_the_mirror_raises(change, message):
    assert message_of(check_changed, lambda kv: replace(kv, **change)) == message


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        (
            PlaneGeometry(name="k", row_shape=(2, 8), dtype=torch.float16),
            "KV k: host dtype must equal device dtype; expected torch.float16, got torch.bfloat16",
        ),
        (
            PlaneGeometry(name="k", row_shape=(4, 4), dtype=torch.bfloat16),
            "KV k: host row shape must equal device row shape; expected (4, 4), got (2, 8)",
        ),
        (
            PlaneGeometry(name="k", row_shape=(2, 16), dtype=torch.bfloat16),
            "KV k: host row must equal device row; expected 64 bytes, got 32",
        ),
    ],
)
def test_plane_that_is_not_the_mirror_raises(plane, message):
    def with_plane(kv):
        return replace(kv, planes=(plane, kv.planes[1]))

    assert message_of(check_changed, with_plane) == message


def check_changed(change):
    """Check a right MHA group against a declaration that differs by ``change``."""
    params = params_of(mha_pool(CPU))
    group, _ = kv_only(params)
    (kv,) = (one.geometry for one in mirrored_pools(params))
    validate_stack(group=group, declared=[change(kv)], page_size=4, transfer_layer_num=3)


def test_unchanged_declaration_passes():
    """Control of the mirrors above."""
    check_changed(lambda kv: kv)


@pytest.mark.parametrize(
    ("build", "make_params"),
    [
        (shared_anchor, nsa_params),
        (swa, lambda: swa_params(CPU)),
        (mamba, lambda: mamba_params(CPU)),
    ],
)
def test_complete_hybrids_pass(build, make_params):
    build(make_params())


def test_duplicate_pool_raises_even_behind_opened_walls():
    group, _ = kv_only(params_of(mha_pool(CPU)))
    entry = group.anchor_entry
    twin = PoolEntry(entry.name, entry.host_pool, entry.device_pool, entry.layer_mapper)
    with validation_disabled(), pytest.raises(AssemblyError, match="a pool name must be unique"):
        HostPoolGroup([entry, twin])
