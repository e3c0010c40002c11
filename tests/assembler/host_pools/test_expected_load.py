import pytest
import torch

from assembler.errors import TransferError
from assembler.names import Direction
from assembler.transfer import engine


@pytest.fixture
def mover(monkeypatch, set_mover):
    monkeypatch.setattr(engine, "_set_mover", lambda accelerator, backend: set_mover)
    return set_mover


@pytest.fixture
def loading(pools, mover):
    """A latent pool of three layers whose host rows are their layer's number plus one."""
    pool = pools.mla()
    host = pools.mla_host(pool)
    for layer in range(3):
        host.kv_buffer[layer].fill_(layer + 1)
    for buffer in pool.kv_buffer:
        buffer.zero_()
    return pool, host


def arguments(pool, *, slots=(4, 5)):
    indices = torch.tensor(slots)
    return {
        "device_pool": pool,
        "host_indices": indices,
        "device_indices": indices,
        "io_backend": "kernel",
    }


def loaded(pool):
    return [buffer.ne(0).any().item() for buffer in pool.kv_buffer]


def layers(mover):
    assert all(direction is Direction.LOAD for direction, _ in mover.taken)
    return [layers for _, layers in mover.taken]


def test_layers_of_an_expected_load_are_launched_in_growing_parts(loading, mover):
    pool, host = loading
    load = arguments(pool)

    host.expect_load(**load)
    # As many bytes as a layer has here; the next launch has twice as many.
    host._expected_load.reach = 2 * host.size_per_token // 3
    host.load_to_device_per_layer(**load, layer_id=0)
    assert loaded(pool) == [True, False, False]
    host.load_to_device_per_layer(**load, layer_id=1)
    assert loaded(pool) == [True, True, True]
    host.load_to_device_per_layer(**load, layer_id=2)

    assert layers(mover) == [[0], [1, 2]]
    for layer, buffer in enumerate(pool.kv_buffer):
        assert buffer[[4, 5]].eq(layer + 1).all()
        assert buffer.ne(0).any(dim=2).sum() == 2


def test_a_small_expected_load_is_one_launch(loading, mover):
    pool, host = loading
    load = arguments(pool)

    host.expect_load(**load)
    host.load_to_device_per_layer(**load, layer_id=0)

    host.load_to_device_per_layer(**load, layer_id=1)

    assert layers(mover) == [[0, 1, 2]]
    assert loaded(pool) == [True, True, True]


def test_without_an_announcement_each_layer_is_launched_alone(loading, mover):
    pool, host = loading
    load = arguments(pool)

    host.load_to_device_per_layer(**load, layer_id=0)
    host.load_to_device_per_layer(**load, layer_id=1)

    assert layers(mover) == [[0], [1]]
    assert loaded(pool) == [True, True, False]


def test_an_expected_load_is_over_after_its_last_layer(loading, mover):
    pool, host = loading
    load = arguments(pool)
    host.expect_load(**load)
    for layer in range(3):
        host.load_to_device_per_layer(**load, layer_id=layer)

    host.load_to_device_per_layer(**load, layer_id=1)

    assert layers(mover) == [[0, 1, 2], [1]]


def test_other_slots_and_other_streams_belong_to_no_expected_load(loading, mover):
    pool, host = loading
    host.expect_load(**arguments(pool))

    host.load_to_device_per_layer(**arguments(pool, slots=(7,)), layer_id=1)
    assert layers(mover) == [[1]]

    load = arguments(pool)
    host.expect_load(**load)
    with host.device.on(host.device.new_stream("other")):
        host.load_to_device_per_layer(**load, layer_id=1)
    assert layers(mover) == [[1], [1]]
    assert loaded(pool) == [False, True, False]


def test_without_a_mover_of_sets_no_layer_is_launched_ahead(pools):
    pool = pools.mla()
    host = pools.mla_host(pool)
    host.kv_buffer.fill_(1)
    for buffer in pool.kv_buffer:
        buffer.zero_()
    load = arguments(pool)

    host.expect_load(**load)
    host.load_to_device_per_layer(**load, layer_id=1)

    assert loaded(pool) == [False, True, False]


def test_what_cannot_be_loaded_raises_when_it_is_loaded(loading):
    pool, host = loading
    load = {**arguments(pool), "io_backend": "other"}

    host.expect_load(**load)

    with pytest.raises(TransferError, match="unsupported io backend"):
        host.load_to_device_per_layer(**load, layer_id=0)
