import pytest
import torch

from assembler.device.cpu import CpuDevice
from assembler.errors import TransferError
from assembler.names import Direction, IoBackend
from assembler.transfer import engine
from assembler.transfer.engine import LayerRows, move, open_submission
from assembler.transfer.kernel import KernelRowMover
from assembler.transfer.windows import device_window, host_window
from traces.simulator.byte_spans import byte_spans_of


class DeferringDevice(CpuDevice):
    """Does launched work when it is synchronised, and not before."""

    def __init__(self):
        super().__init__()
        self.pending = []
        self.declared = []

    def launch(self, operation, *, label, reads, writes):
        self.pending.append(operation)
        self.declared.append((label, reads, writes))

    def synchronize(self):
        while self.pending:
            self.pending.pop(0)()


@pytest.fixture
def deferring(pools):
    return type(pools)(DeferringDevice())


def move_layer_one(host, pool, *, host_slots, slots, backend=IoBackend.KERNEL):
    buffer = host.k_buffer
    window = host_window(buffer=buffer, rows=buffer[1])
    with open_submission(host.device, backend=backend, label="backup") as submission:
        return move(
            submission,
            direction=Direction.BACKUP,
            layer_rows=LayerRows(
                owner=host,
                plane="k",
                layer=1,
                row_map=host.row_map,
                host=window,
                device=device_window(
                    buffer=pool.k_buffer[1], rows=pool.k_buffer[1], row_bytes=window.row_bytes
                ),
            ),
            host_indices=host_slots,
            device_indices=slots,
        )


@pytest.mark.parametrize("backend", list(IoBackend))
def test_bytes_moved_are_rows_times_row_bytes(pools, backend):
    pool = pools.mha()
    host = pools.mha_host(pool)

    moved = move_layer_one(
        host, pool, host_slots=torch.arange(3), slots=torch.arange(3), backend=backend
    )

    assert moved == 96  # 3 rows * 2 heads * 8 elements * 2 bytes


def test_slots_of_different_lengths_raise(pools):
    pool = pools.mha()

    with pytest.raises(
        TransferError,
        match=r"^MHATokenToKVPoolHost k layer 1: host and device slots must pair up; "
        r"expected 3 device slots, got 2$",
    ):
        move_layer_one(
            pools.mha_host(pool), pool, host_slots=torch.arange(3), slots=torch.arange(2)
        )


def test_slots_of_another_dtype_raise(pools):
    pool = pools.mha()

    with pytest.raises(TransferError, match=r"expected torch\.int64, got torch\.int32"):
        move_layer_one(
            pools.mha_host(pool),
            pool,
            host_slots=torch.arange(3, dtype=torch.int32),
            slots=torch.arange(3),
        )


@pytest.mark.parametrize("backend", list(IoBackend))
def test_nothing_is_moved_or_read_before_the_device_does_the_work(deferring, backend):
    pool = deferring.mha()
    host = deferring.mha_host(pool)
    host.kv_buffer.zero_()
    pool.k_buffer[1].fill_(1)

    move_layer_one(
        host, pool, host_slots=torch.tensor([2]), slots=torch.tensor([5]), backend=backend
    )
    assert host.kv_buffer.eq(0).all()

    pool.k_buffer[1].fill_(3)
    pool.device.synchronize()
    assert host.kv_buffer[0, 1, 2].eq(3).all()
    assert host.kv_buffer.ne(0).sum() == 16


def test_kernel_reads_slots_when_the_device_does_the_work(deferring):
    pool = deferring.mha()
    host = deferring.mha_host(pool)
    host.kv_buffer.zero_()
    pool.k_buffer[1].fill_(1)
    slots = torch.tensor([0])

    move_layer_one(host, pool, host_slots=slots, slots=slots)
    slots.fill_(6)
    pool.device.synchronize()

    assert host.kv_buffer[0, 1, 6].eq(1).all()
    assert host.kv_buffer[0, 1, 0].eq(0).all()


def test_what_an_operation_reads_and_writes_is_declared(deferring):
    pool = deferring.mha()
    host = deferring.mha_host(pool)
    host_slots, slots = torch.tensor([2, 4]), torch.tensor([5, 6])

    move_layer_one(host, pool, host_slots=host_slots, slots=slots)

    ((label, (source, *indices), (target,)),) = pool.device.declared
    assert label == "backup MHATokenToKVPoolHost k layer 1"
    assert [access.tensor.data_ptr() for access in indices] == [
        host_slots.data_ptr(),
        slots.data_ptr(),
    ]
    # A row is 2 heads * 8 elements * 2 bytes; a host layer has 13 pages of 4 slots.
    assert byte_spans_of(source).tolist() == [[160, 224]]
    assert byte_spans_of(target).tolist() == [[1728, 1760], [1792, 1824]]


def test_kernel_declares_the_rows_of_the_wrong_stride(deferring):
    """Scenario: 576-byte rows of the host, 656-byte rows of the device."""
    pool = deferring.nsa()
    host = deferring.mla_host(pool)

    host.load_to_device_per_layer(
        device_pool=pool,
        host_indices=torch.tensor([2]),
        device_indices=torch.tensor([5]),
        layer_id=0,
        io_backend="kernel",
    )

    ((_, _, (target,)),) = pool.device.declared
    assert byte_spans_of(target).tolist() == [[2880, 3456]]


def test_rows_of_different_widths_raise_at_launch(deferring):
    pool = deferring.nsa()
    host = deferring.mla_host(pool)

    with pytest.raises(RuntimeError, match=r"tensor a \(576\)"):
        host.backup_from_device_all_layer(
            device_pool=pool,
            host_indices=torch.tensor([2]),
            device_indices=torch.tensor([5]),
            io_backend="direct",
        )

    assert pool.device.pending == []


def test_misaligned_pages_raise_at_launch_where_the_host_knows_the_slots(deferring):
    pool = deferring.nsa()
    host = deferring.indexer_host(pool)

    with pytest.raises(TransferError, match="expected slot 4 at position 0, got slot 5"):
        host.backup_from_device_all_layer(
            device_pool=pool,
            host_indices=torch.tensor([0, 1, 2, 3]),
            device_indices=torch.tensor([5, 6, 7, 8]),
            io_backend="direct",
        )

    assert pool.device.pending == []


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("pools_anywhere", ["cuda"], indirect=True)
@pytest.mark.parametrize("layout", ["layer_first", "page_first", "page_head"])
def test_kernel_does_not_wait_for_the_device(pools_anywhere, layout):
    device = pools_anywhere.device
    pool = pools_anywhere.mha()
    host = pools_anywhere.mha_host(pool, layout=layout)
    slots = device.to_device(torch.tensor([5, 6]))
    stream, spun, done = device.new_stream("write"), device.new_event("x"), device.new_event("y")

    def back_up():
        host.backup_from_device_all_layer(
            device_pool=pool, host_indices=slots, device_indices=slots, io_backend="kernel"
        )

    back_up()
    device.synchronize()  # kernels are loaded on first use, and that waits
    with device.on(stream):
        torch.cuda._sleep(200_000_000)
        spun.record(stream)
        back_up()
        done.record(stream)

    assert not spun.query()
    done.synchronize()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("pools_anywhere", ["cuda"], indirect=True)
def test_slots_in_the_wrong_memory_raise(pools_anywhere):
    pool = pools_anywhere.mha()
    host = pools_anywhere.mha_host(pool)
    here = torch.tensor([5])
    there = pools_anywhere.device.to_device(here)

    with pytest.raises(TransferError, match="kernel needs slots in device memory"):
        move_layer_one(host, pool, host_slots=here, slots=there)
    with pytest.raises(TransferError, match="direct needs slots in host memory"):
        move_layer_one(host, pool, host_slots=here, slots=there, backend=IoBackend.DIRECT)


class GatheringMover(KernelRowMover):
    """Takes copies together and remembers how many."""

    gathers = True

    def __init__(self):
        super().__init__()
        self.taken = []

    def run(self, accelerator, copies):
        self.taken.append(len(copies))
        super().run(accelerator, copies)


@pytest.fixture
def gathering(monkeypatch):
    mover = GatheringMover()
    monkeypatch.setattr(engine, "_mover", lambda accelerator, backend: mover)
    return mover


def move_layers(host, pool, layers, *, slots):
    with open_submission(host.device, backend=IoBackend.KERNEL, label="backup") as submission:
        for layer in layers:
            window = host_window(buffer=host.k_buffer, rows=host.k_buffer[layer])
            rows = pool.k_buffer[layer]
            device = device_window(buffer=rows, rows=rows, row_bytes=window.row_bytes)
            move(
                submission,
                direction=Direction.BACKUP,
                layer_rows=LayerRows(
                    owner=host,
                    plane="k",
                    layer=layer,
                    row_map=host.row_map,
                    host=window,
                    device=device,
                ),
                host_indices=slots,
                device_indices=slots,
            )


def test_gathered_copies_are_launched_in_growing_parts(deferring, gathering):
    pool = deferring.mha()
    host = deferring.mha_host(pool)

    move_layers(host, pool, [0, 1, 2] * 5, slots=torch.arange(3))

    assert [len(reads) for _, reads, _ in pool.device.declared] == [12, 24, 9]
    pool.device.synchronize()
    assert gathering.taken == [4, 8, 3]


def test_copies_of_a_backend_that_does_not_gather_are_launched_one_by_one(deferring):
    pool = deferring.mha()
    host = deferring.mha_host(pool)

    move_layers(host, pool, [0, 1, 2], slots=torch.arange(3))

    assert [len(reads) for _, reads, _ in pool.device.declared] == [3, 3, 3]


def test_copies_gathered_before_an_error_are_done(pools, gathering):
    pool = pools.mha()
    host = pools.mha_host(pool)
    host.kv_buffer.zero_()
    pool.k_buffer[0].fill_(1)
    slots = torch.arange(3)

    with pytest.raises(IndexError):
        move_layers(host, pool, [0, 3], slots=slots)

    assert gathering.taken == [1]
    assert host.k_buffer[0, :3].eq(1).all()
