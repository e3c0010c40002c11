import pytest
import torch

from assembler.device.cpu import CpuDevice
from assembler.errors import TransferError
from assembler.host_pools import base
from assembler.names import Direction, IoBackend
from assembler.transfer import engine
from assembler.transfer.engine import Submission, move
from assembler.transfer.layer_rows import LayerRows, RowSet
from assembler.transfer.operation_slots import OperationSlots
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
    return move(
        Submission(host.device, backend),
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


@pytest.fixture
def ahead(monkeypatch, set_mover):
    """A mover that copies sets, on every device."""
    monkeypatch.setattr(engine, "_set_mover", lambda accelerator, backend: set_mover)
    return set_mover


def layer_rows(host, pool, layer):
    window = host_window(buffer=host.k_buffer, rows=host.k_buffer[layer])
    rows = pool.k_buffer[layer]
    return LayerRows(
        owner=host,
        plane="k",
        layer=layer,
        row_map=host.row_map,
        host=window,
        device=device_window(buffer=rows, rows=rows, row_bytes=window.row_bytes),
    )


def move_layers(submission, rows, slots):
    for one in rows:
        move(
            submission,
            direction=Direction.BACKUP,
            layer_rows=one,
            host_indices=slots,
            device_indices=slots,
        )


def test_copies_that_were_launched_ahead_are_not_launched_again(deferring, ahead, monkeypatch):
    counted = []
    monkeypatch.setattr(
        base, "moved_ahead", lambda submission, **moved: counted.append(moved["rows"])
    )
    pool = deferring.mha()
    host = deferring.mha_host(pool)
    slots = torch.arange(3)

    host.backup_from_device_all_layer(
        device_pool=pool, host_indices=slots, device_indices=slots, io_backend="kernel"
    )

    assert pool.device.declared == []
    layers = [layer for layer in range(pool.layer_num) for _ in ("k", "v")]
    assert ahead.taken == [(Direction.BACKUP, layers)]
    assert [[rows.layer for rows in some] for some in counted] == [layers]


def test_without_a_mover_of_sets_every_row_is_a_copy(deferring, monkeypatch):
    monkeypatch.setattr(base, "moved_ahead", None)
    pool = deferring.mha()
    host = deferring.mha_host(pool)
    slots = torch.arange(3)

    assert not Submission(pool.device, IoBackend.KERNEL).launches_ahead
    host.backup_from_device_all_layer(
        device_pool=pool, host_indices=slots, device_indices=slots, io_backend="kernel"
    )

    assert len(pool.device.declared) == 2 * pool.layer_num


def test_slots_of_different_lengths_are_not_launched_ahead(deferring, ahead):
    pool = deferring.mha()
    host = deferring.mha_host(pool)
    rows = RowSet(rows=(layer_rows(host, pool, 0),))
    submission = Submission(pool.device, IoBackend.KERNEL)

    with pytest.raises(TransferError, match="must pair up"):
        submission.launch_ahead(
            rows, (torch.arange(3), torch.arange(2)), direction=Direction.BACKUP
        )

    assert pool.device.declared == []


def test_rows_of_an_operation_are_computed_once(pools):
    host = pools.indexer_host(pools.nsa(), layout="page_first")
    slots = OperationSlots(
        pools.device, host_indices=torch.arange(8, 16), device_indices=torch.arange(4, 12)
    )

    rows = slots.rows(host.row_map)

    assert [one.tolist() for one in rows] == [[2, 3], [1, 2]]
    assert slots.rows(host.row_map) is rows
    assert slots.known_host_runs(host.row_map).rows.tolist() == [2, 3]


def test_slots_that_are_no_whole_pages_have_no_rows(pools):
    host = pools.indexer_host(pools.nsa(), layout="page_first")
    slots = OperationSlots(
        pools.device, host_indices=torch.arange(7, 15), device_indices=torch.arange(4, 12)
    )

    assert slots.known_host_runs(host.row_map) is None
    with pytest.raises(TransferError, match="whole and in order"):
        slots.rows(host.row_map)
