from traces.targets.sglang.pool_sides import PoolSides


class Host: ...


class Device: ...


class Both(Device, Host): ...


def test_a_class_has_the_side_of_its_base_and_is_a_host_pool_first():
    sides = PoolSides(host=(Host,), device=(Device,))

    assert [sides.side_of(kind) for kind in (Host, Device, Both, int)] == [
        "host",
        "device",
        "host",
        "",
    ]
    assert sides.side_of(Both) == "host"
