import threading

import pytest
import torch

from assembler.device import get_device, tensor_access
from assembler.errors import OutOfDeviceMemoryError, PoolError

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

# About a tenth of a second of device time: long enough to see that the host does not wait.
SPIN_CYCLES = 200_000_000


@pytest.fixture
def cuda():
    device = get_device("cuda")
    yield device
    device.synchronize()


def test_host_memory_is_pinned_when_asked_for(cuda):
    assert cuda.is_pinned(cuda.host_empty((4,), torch.uint8, pin_memory=True))
    assert not cuda.is_pinned(cuda.host_empty((4,), torch.uint8, pin_memory=False))


def test_mapped_memory_is_the_same_memory(cuda):
    tensor = cuda.host_empty((4, 8), torch.bfloat16, pin_memory=True)
    tensor.zero_()
    mapped = cuda.mapped(tensor)

    mapped.fill_(3)
    cuda.synchronize()

    assert mapped.is_cuda
    assert mapped.data_ptr() == tensor.data_ptr()
    assert tensor.eq(3).all()


def test_mapped_view_keeps_offset_and_strides(cuda):
    tensor = cuda.host_empty((4, 8), torch.int32, pin_memory=True)
    tensor.copy_(torch.arange(32).view(4, 8))
    view = tensor[1:, 2:4]

    mapped = cuda.mapped(view)

    assert mapped.stride() == view.stride()
    assert mapped.cpu().tolist() == [[10, 11], [18, 19], [26, 27]]


def test_mapped_memory_outlives_its_tensor(cuda):
    tensor = cuda.host_empty((1 << 20,), torch.uint8, pin_memory=True)
    tensor.fill_(5)
    mapped = cuda.mapped(tensor)
    del tensor
    cuda.host_empty((1 << 20,), torch.uint8, pin_memory=True).fill_(9)

    assert mapped.eq(5).all()


def test_pageable_memory_cannot_be_mapped(cuda):
    with pytest.raises(PoolError, match="page-locked"):
        cuda.mapped(torch.empty(4))


def test_device_memory_maps_to_itself(cuda):
    tensor = cuda.zeros((4,), torch.uint8)

    assert cuda.mapped(tensor) is tensor


def test_streams_are_switched_and_switched_back(cuda):
    stream = cuda.new_stream("load")

    assert cuda.current_stream().name == "default"
    with cuda.on(stream):
        assert cuda.current_stream() is stream
        assert torch.cuda.current_stream() == stream.torch_stream
    assert cuda.current_stream().name == "default"
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


def test_stream_switched_by_torch_is_foreign(cuda):
    with torch.cuda.stream(torch.cuda.Stream()):
        assert cuda.current_stream().name == "foreign"
    assert cuda.current_stream().name == "default"


def test_streams_are_switched_for_one_thread_only(cuda):
    names = []
    with cuda.on(cuda.new_stream("load")):
        thread = threading.Thread(target=lambda: names.append(cuda.current_stream().name))
        thread.start()
        thread.join()

    assert names == ["default"]


def test_event_is_done_only_after_the_work_before_it(cuda):
    stream, event = cuda.new_stream("write"), cuda.new_event("write.finish")
    assert event.query()

    with cuda.on(stream):
        torch.cuda._sleep(SPIN_CYCLES)
        event.record(stream)

    assert not event.query()
    event.synchronize()
    assert event.query()


def test_wait_event_orders_streams_without_blocking_the_host(cuda):
    first, second = cuda.new_stream("write"), cuda.new_stream("load")
    value, seen = cuda.zeros((1,), torch.int64), cuda.zeros((1,), torch.int64)
    event = cuda.new_event("write.finish")
    value.fill_(0)
    seen.copy_(value)
    cuda.synchronize()  # kernels are loaded on first use, and that waits

    with cuda.on(first):
        torch.cuda._sleep(SPIN_CYCLES)
        cuda.launch(lambda: value.fill_(3), label="fill", reads=(), writes=(tensor_access(value),))
        event.record(first)
    with cuda.on(second):
        second.wait_event(event)
        cuda.launch(
            lambda: seen.copy_(value),
            label="copy",
            reads=(tensor_access(value),),
            writes=(tensor_access(seen),),
        )

    assert not event.query()
    second.synchronize()
    assert seen.item() == 3


def test_index_tensors_go_to_the_device_without_waiting_for_it(cuda):
    stream, event = cuda.new_stream("load"), cuda.new_event("load.start")
    cuda.to_device(torch.tensor([1, 2, 3]))
    cuda.synchronize()  # the first pinned block is allocated, and that waits
    with cuda.on(stream):
        torch.cuda._sleep(SPIN_CYCLES)
        event.record(stream)
        moved = cuda.to_device(torch.tensor([1, 2, 3]))

    assert moved.is_cuda
    assert not event.query()
    stream.synchronize()
    assert cuda.to_host(moved).tolist() == [1, 2, 3]


def test_index_tensors_of_many_uploads_under_way_keep_their_numbers(cuda):
    stream = cuda.new_stream("load")
    with cuda.on(stream):
        torch.cuda._sleep(SPIN_CYCLES)
        moved = [cuda.to_device(torch.full((1000,), number)) for number in range(50)]
    stream.synchronize()

    assert [numbers.unique().tolist() for numbers in moved] == [[number] for number in range(50)]
    assert cuda.to_device(torch.tensor([], dtype=torch.int64)).shape == (0,)


def test_index_tensors_on_the_right_side_stay(cuda):
    there, here = torch.tensor([1], device="cuda"), torch.tensor([1])

    assert cuda.to_device(there) is there
    assert cuda.to_host(here) is here


def test_foreign_events_and_streams_are_refused(cuda):
    cpu = get_device("cpu")

    with pytest.raises(TypeError, match="CudaStream"):
        cuda.new_event("x").record(cpu.current_stream())
    with pytest.raises(TypeError, match="CudaEvent"):
        cuda.current_stream().wait_event(cpu.new_event("x"))


def test_allocation_beyond_the_memory_raises(cuda):
    with pytest.raises(OutOfDeviceMemoryError, match="room for 1125899906842624 bytes"):
        cuda.empty((1 << 50,), torch.uint8)
