import gc
import weakref

from assembler.host_pools.known_rows import KnownRows


def test_rows_are_the_same_objects_while_the_buffers_are_the_same(pools):
    pool = pools.mla()
    host = pools.mla_host(pool)
    known = KnownRows(("kv",))

    layers = known.layers(host, pool, 3)

    assert known.layers(host, pool, 3) is layers
    assert known.layer(host, pool, 1) is layers.layers[1]
    assert [rows.layer for rows in layers.span(1, 3).rows] == [1, 2]
    assert layers.span(1, 3) is layers.span(1, 3)
    assert layers.span(1, 2) is layers.layers[1]


def test_another_device_buffer_makes_other_rows_of_its_layer(pools):
    pool = pools.mla()
    host = pools.mla_host(pool)
    known = KnownRows(("kv",))
    before = known.layers(host, pool, 3)

    pool.kv_buffer[1] = pool.kv_buffer[1].clone()
    after = known.layers(host, pool, 3)

    same = [one is other for one, other in zip(before.layers, after.layers, strict=True)]
    assert same == [True, False, True]
    assert after.layers[1].rows[0].device.tensor.data_ptr() == pool.kv_buffer[1].data_ptr()


def test_another_host_buffer_makes_other_rows(pools):
    pool = pools.mla()
    host = pools.mla_host(pool)
    known = KnownRows(("kv",))
    before = known.layers(host, pool, 3)

    host.kv_buffer = host.kv_buffer.clone()
    after = known.layers(host, pool, 3)

    assert not any(one is other for one, other in zip(before.layers, after.layers, strict=True))


def test_views_that_are_cut_anew_are_the_same_memory(pools, monkeypatch):
    pool = pools.mamba()
    host = pools.mamba_host(pool, layout="layer_first")
    planes = tuple(plane.name for plane in host.planes)
    whole = pool.plane_buffer
    monkeypatch.setattr(pool, "plane_buffer", lambda **place: whole(**place)[:])
    known = KnownRows(planes)

    assert known.layers(host, pool, 2) is known.layers(host, pool, 2)


def test_rows_do_not_keep_their_pool(pools):
    pool = pools.mla()
    host = pools.mla_host(pool)
    gone = weakref.ref(host)
    known = KnownRows(("kv",))
    known.layers(host, pool, 3)

    gc.disable()
    try:
        del host
        assert gone() is None
    finally:
        gc.enable()
