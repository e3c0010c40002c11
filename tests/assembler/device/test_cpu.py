import subprocess
import sys
import threading

import pytest
import torch

from assembler.device.access import tensor_access
from assembler.device.cpu import CpuDevice


def test_host_memory_is_pinned_when_asked_for():
    device = CpuDevice()

    assert device.is_pinned(device.host_empty((4,), torch.uint8, pin_memory=True))
    assert not device.is_pinned(device.host_empty((4,), torch.uint8, pin_memory=False))
    assert not device.is_pinned(torch.empty(4))


def test_views_of_pinned_memory_are_pinned():
    device = CpuDevice()
    tensor = device.host_empty((4, 8), torch.bfloat16, pin_memory=True)

    assert device.is_pinned(tensor[2:].view(-1).view(torch.uint8))


def test_pinned_memory_is_forgotten_when_it_is_freed():
    device = CpuDevice()
    for _ in range(50):
        device.host_empty((1 << 16,), torch.uint8, pin_memory=True)
        fresh = torch.empty(1 << 16, dtype=torch.uint8)
        assert not device.is_pinned(fresh)


def test_pinned_memory_of_another_device_is_not_ours():
    tensor = CpuDevice().host_empty((4,), torch.uint8, pin_memory=True)

    assert not CpuDevice().is_pinned(tensor)


def test_zeros_are_zero_and_shapes_hold():
    device = CpuDevice()

    assert device.zeros((2, 3), torch.int64).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert device.empty((2, 3), torch.float32).shape == (2, 3)
    assert device.empty((2, 3), torch.float32).dtype == torch.float32


def test_mapped_memory_is_the_same_memory():
    device = CpuDevice()
    tensor = device.host_empty((4,), torch.uint8, pin_memory=True)

    device.mapped(tensor).fill_(7)

    assert tensor.tolist() == [7, 7, 7, 7]


def test_launched_operation_is_done_at_once():
    device = CpuDevice()
    tensor = device.zeros((2,), torch.int64)

    device.launch(lambda: tensor.fill_(3), label="fill", reads=(), writes=(tensor_access(tensor),))

    assert tensor.tolist() == [3, 3]


def test_error_of_an_operation_reaches_the_caller():
    device = CpuDevice()

    def operation():
        raise RuntimeError("rows differ")

    with pytest.raises(RuntimeError, match="rows differ"):
        device.launch(operation, label="fail", reads=(), writes=())


def test_current_stream_is_default_until_switched():
    device = CpuDevice()
    stream = device.new_stream("load")

    assert device.current_stream().name == "default"
    with device.on(stream):
        assert device.current_stream() is stream
    assert device.current_stream().name == "default"


def test_stream_is_switched_back_after_an_error():
    device = CpuDevice()

    with pytest.raises(ValueError, match="stop"), device.on(device.new_stream("load")):
        raise ValueError("stop")

    assert device.current_stream().name == "default"


def test_streams_are_switched_for_one_thread_only():
    device = CpuDevice()
    names = []
    with device.on(device.new_stream("load")):
        thread = threading.Thread(target=lambda: names.append(device.current_stream().name))
        thread.start()
        thread.join()

    assert names == ["default"]


def test_events_are_done_before_and_after_they_are_recorded():
    device = CpuDevice()
    event = device.new_event("write.finish")

    assert event.name == "write.finish"
    assert event.query()
    event.record(device.current_stream())
    assert event.query()
    event.synchronize()
    device.new_stream("load").wait_event(event)


def test_nothing_blocks_because_nothing_is_pending():
    device = CpuDevice()
    stream = device.new_stream("write")

    stream.hold(torch.empty(1))
    stream.synchronize()
    device.synchronize()


def test_index_tensors_stay_where_they_are():
    device = CpuDevice()
    indices = torch.tensor([1, 2])

    assert device.to_device(indices) is indices
    assert device.to_host(indices) is indices


def test_cpu_device_leaves_cuda_alone():
    program = (
        "import sys, torch; from assembler.device import get_device; get_device('cpu');"
        "assert 'assembler.device.cuda' not in sys.modules;"
        "assert not torch.cuda.is_initialized()"
    )

    subprocess.run([sys.executable, "-c", program], check=True)
