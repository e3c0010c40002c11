import torch
from tinystack.pools import DevicePool, HostPool

from traces.recording.buffers import BufferRecorder
from traces.recording.object_ids import OwnerNames


class Nested:
    """A pool as the target of the test knows it."""

    def __init__(self) -> None:
        self.whole = torch.zeros(4, 6, dtype=torch.float16)
        self.parts = [self.whole[:2], (self.whole.t(), torch.zeros(0))]
        self.name = "no tensor"
        self.empty = torch.zeros(0)
        self._hidden = torch.zeros(9)


class NestedTarget:
    def view(self, pool):
        from traces.recording.probes import PoolView

        if not isinstance(pool, Nested):
            return None
        return PoolView(side="host", layout="page_first", is_pinned=lambda one: one.dim() == 2)


def test_public_tensors_are_read_in_order_with_shape_memory_and_alias():
    buffers = BufferRecorder(NestedTarget())
    pool = Nested()
    buffers.snapshot(pool, "Nested#1")
    owners = OwnerNames()
    owners.name("Nested#1", side="host", pool="KV")

    records = buffers.records(owners)

    # 4 * 6 * 2 bytes for the whole, half of it for the first two rows.
    assert [
        (one.name, one.shape, one.stride, one.bytes, one.pinned, one.aliases) for one in records
    ] == [
        ("whole", (4, 6), (6, 1), 48, True, ""),
        ("parts[0]", (2, 6), (6, 1), 24, True, "host.KV.whole"),
        ("parts[1][0]", (6, 4), (1, 6), 48, True, "host.KV.whole"),
        ("parts[1][1]", (0,), (1,), 0, False, ""),
        ("empty", (0,), (1,), 0, False, ""),
    ]
    first = records[0]
    assert (first.owner, first.object, first.dtype, first.layout) == (
        "host.KV",
        "Nested#1",
        "float16",
        "page_first",
    )


def test_pool_that_cannot_be_referred_to_weakly_is_read_too():
    class Strong:
        __slots__ = ("__dict__",)

        def __init__(self):
            self.kv_buffer = torch.zeros(2)

    class StrongTarget:
        def view(self, pool):
            from traces.recording.probes import PoolView

            return PoolView(side="host", layout="", is_pinned=lambda one: False)

    buffers = BufferRecorder(StrongTarget())
    buffers.snapshot(Strong(), "Strong#1")

    assert [one.name for one in buffers.records(OwnerNames())] == ["kv_buffer"]


def test_what_is_no_pool_has_no_buffers():
    buffers = BufferRecorder(NestedTarget())

    buffers.snapshot([torch.zeros(3)], "list#1")

    assert buffers.records(OwnerNames()) == ()


def test_each_pool_is_read_once():
    buffers = BufferRecorder(NestedTarget())
    pool = Nested()

    buffers.snapshot(pool, "Nested#1")
    pool.late = torch.zeros(1)
    buffers.snapshot(pool, "Nested#1")

    assert len(buffers.records(OwnerNames())) == 5


def test_two_pools_that_share_memory(tiny):
    buffers = BufferRecorder(tiny)
    device_pool = DevicePool(4, width=4, layers=1)
    host_pool = HostPool(device_pool=device_pool)
    host_pool.kv_buffer = device_pool.k_buffer[0]
    del host_pool.first_layer
    buffers.snapshot(device_pool, "DevicePool#1")
    buffers.snapshot(host_pool, "HostPool#1")

    records = buffers.records(OwnerNames())

    assert records[1].aliases == "device.DevicePool.k_buffer[0]"


def test_memory_used_again_after_its_pool_is_gone_is_no_alias(tiny):
    buffers = BufferRecorder(tiny)
    for number in range(20):
        pool = DevicePool(64, width=64, layers=1)
        buffers.snapshot(pool, f"DevicePool#{number}")
        del pool

    assert {record.aliases for record in buffers.records(OwnerNames())} == {""}
