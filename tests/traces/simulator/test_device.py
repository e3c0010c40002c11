import gc
import threading

import pytest
import torch

from assembler.device import get_device, tensor_access
from assembler.errors import (
    DeadlockError,
    OutOfDeviceMemoryError,
    OutOfHostMemoryError,
    PoolError,
)
from traces.simulator import ReplayedSchedule, Schedule, SchedulePolicy, SimDevice
from traces.simulator.schedule import ReplayError


def new_device(policy="latest", *, seed=0, capacity_bytes=None, raise_races=False):
    schedule = Schedule(seed=seed, policy=policy)
    return SimDevice(schedule=schedule, capacity_bytes=capacity_bytes, raise_races=raise_races)


@pytest.fixture
def device():
    return new_device()


def put(device, tensor, value, *, stream=None, label="put"):
    with device.on(stream or device.current_stream()):
        device.launch(
            lambda: tensor.fill_(value), label=label, reads=(), writes=(tensor_access(tensor),)
        )


def copy(device, source, target, *, stream=None, label="copy"):
    with device.on(stream or device.current_stream()):
        device.launch(
            lambda: target.copy_(source),
            label=label,
            reads=(tensor_access(source),),
            writes=(tensor_access(target),),
        )


def settled_zeros(device, size=4):
    tensor = device.zeros((size,), torch.uint8)
    device.synchronize()
    return tensor


@pytest.mark.parametrize(
    ("policy", "seed", "values"),
    [
        ("latest", 0, [0, 0]),
        ("earliest", 0, [7, 7]),
        ("starve", 1, [0, 7]),
        ("starve", 2, [7, 0]),
        ("starve", 0, [7, 7]),
    ],
)
def test_policy_says_what_has_happened_before_anybody_waits(policy, seed, values):
    device = new_device(policy, seed=seed)
    tensors = [settled_zeros(device) for _ in range(2)]
    for tensor in tensors:
        put(device, tensor, 7, stream=device.new_stream("side"))

    assert [int(tensor[0]) for tensor in tensors] == values
    device.synchronize()
    assert [int(tensor[0]) for tensor in tensors] == [7, 7]


def test_latest_does_no_more_than_what_is_waited_for(device):
    first, second, third = (settled_zeros(device) for _ in range(3))
    left, right, event = (
        device.new_stream("left"),
        device.new_stream("right"),
        device.new_event("e"),
    )
    put(device, first, 1, stream=left)
    event.record(left)
    put(device, second, 1, stream=left)
    put(device, third, 1, stream=right)
    right.wait_event(event)
    put(device, third, 2, stream=right)

    right.synchronize()

    assert [int(tensor[0]) for tensor in (first, second, third)] == [1, 0, 2]
    device.synchronize()
    assert int(second[0]) == 1


def test_random_schedules_differ_between_seeds():
    seen = set()
    for seed in range(20):
        device = new_device("random", seed=seed)
        tensor = settled_zeros(device)
        put(device, tensor, 7, stream=device.new_stream("side"))
        seen.add(int(tensor[0]))

    assert seen == {0, 7}


def busy_program(device):
    """Do a little of everything and return what it showed."""
    streams = [device.new_stream(name) for name in ("a", "b")]
    tensors = [settled_zeros(device) for _ in range(2)]
    event, asked = device.new_event("e"), []
    for value in range(10):
        put(device, tensors[0], value, stream=streams[0])
        event.record(streams[0])
        copy(device, *tensors, stream=streams[1])
        asked.append(event.query())
        streams[1].wait_event(event)
    device.synchronize()
    return asked, tensors[1].tolist(), [str(race) for race in device.races]


PROGRAM = """
from tests.traces.simulator.test_device import busy_program, new_device
for policy in ("latest", "earliest", "starve", "random"):
    device = new_device(policy, seed=5)
    print(busy_program(device), device.schedule.log())
"""


def test_same_seed_is_the_same_execution_in_every_process(outputs_of):
    outputs = outputs_of(PROGRAM)

    assert len(outputs) == 1
    assert len(outputs.pop().splitlines()) == 4


@pytest.mark.parametrize("policy", list(SchedulePolicy))
def test_log_replays_the_execution(policy):
    device = new_device(policy, seed=3)
    shown, log = busy_program(device), device.schedule.log()
    again = SimDevice(schedule=ReplayedSchedule(log), capacity_bytes=None, raise_races=False)

    assert busy_program(again) == shown
    assert again.schedule.log() == log


def test_replay_of_another_program_raises():
    device = SimDevice(schedule=ReplayedSchedule("1"), capacity_bytes=None, raise_races=False)

    with pytest.raises(ReplayError, match=r"one of the streams \[0\], got 1$"):
        put(device, device.empty((4,), torch.uint8), 1)


def test_polling_host_sees_progress_some_day(device):
    tensor, event = settled_zeros(device), device.new_event("e")
    put(device, tensor, 7)
    event.record(device.current_stream())

    assert [event.query() for _ in range(5)] == [False, False, False, True, True]
    assert int(tensor[0]) == 7


def test_waiting_for_what_cannot_happen_raises(device):
    with pytest.raises(
        DeadlockError,
        match=r"^host: awaited work must be able to finish; "
        r"expected a stream that can continue, got none$",
    ):
        device._execution.blocked_until(lambda: False, queue=None)


def test_error_of_an_operation_reaches_the_host_call_that_runs_it(device):
    def operation():
        raise RuntimeError("rows differ")

    device.launch(operation, label="fail", reads=(), writes=())

    with pytest.raises(RuntimeError, match="rows differ"):
        device.synchronize()
    device.synchronize()


def test_streams_are_switched_for_one_thread_only(device):
    names = []
    with device.on(device.new_stream("load")):
        assert device.current_stream().name == "load"
        thread = threading.Thread(target=lambda: names.append(device.current_stream().name))
        thread.start()
        thread.join()

    assert names == ["default"]
    assert device.current_stream().name == "default"


def test_foreign_events_and_streams_are_refused(device):
    other = new_device()

    with pytest.raises(TypeError, match="SimStream"):
        device.new_event("x").record(other.current_stream())
    with pytest.raises(TypeError, match="SimEvent"):
        device.current_stream().wait_event(other.new_event("x"))
    with pytest.raises(TypeError, match="SimEvent"):
        device.current_stream().wait_event(get_device("cpu").new_event("x"))


def test_work_of_a_forgotten_stream_is_still_done(device):
    tensor = settled_zeros(device)
    put(device, tensor, 7, stream=device.new_stream("gone"))
    gc.collect()
    device.new_stream("next")

    device.synchronize()

    assert int(tensor[0]) == 7


def test_new_memory_holds_garbage(device):
    assert device.empty((2,), torch.uint8).tolist() == [0xCB, 0xCB]
    assert device.host_empty((2,), torch.uint8, pin_memory=True).tolist() == [0xCB, 0xCB]
    assert device.zeros((2,), torch.uint8).tolist() == [0, 0]


def test_memory_is_pinned_device_or_pageable(device):
    pinned = device.host_empty((4,), torch.uint8, pin_memory=True)
    pageable = device.host_empty((4,), torch.uint8, pin_memory=False)

    assert device.is_pinned(pinned[1:])
    assert not device.is_pinned(pageable)
    assert not device.is_pinned(device.empty((4,), torch.uint8))
    assert device.mapped(pinned) is pinned
    with pytest.raises(PoolError, match="page-locked"):
        device.mapped(pageable)
    with pytest.raises(PoolError, match="page-locked"):
        device.mapped(torch.empty(4))


def test_capacity_limits_what_is_alive():
    device = new_device(capacity_bytes=100)
    first = device.empty((60,), torch.uint8)

    with pytest.raises(
        OutOfDeviceMemoryError,
        match=r"^device memory: must hold what is allocated; expected at most 40 bytes of 100, "
        r"got 48$",
    ):
        device.zeros((6,), torch.int64)
    device.host_empty((200,), torch.uint8, pin_memory=True)
    del first
    assert device.empty((100,), torch.uint8).numel() == 100


def test_index_tensors_take_device_memory():
    device = new_device(capacity_bytes=20)

    assert device.to_device(torch.arange(2)).tolist() == [0, 1]
    with pytest.raises(OutOfDeviceMemoryError):
        device.to_device(torch.arange(3))


def test_allocation_fails_when_told_to(device):
    device.memory.fail(after=1)
    device.memory.fail(after=2)

    device.empty((4,), torch.uint8)
    with pytest.raises(OutOfDeviceMemoryError, match="set to fail; expected 8 bytes"):
        device.empty((8,), torch.uint8)
    with pytest.raises(OutOfHostMemoryError, match="failure of allocation 2"):
        device.host_empty((8,), torch.uint8, pin_memory=True)
    device.empty((8,), torch.uint8)
    assert device.memory.allocation_count == 4


def test_indices_are_copied_to_the_device_once(device):
    here = torch.tensor([1, 2])
    there = device.to_device(here)
    here.fill_(9)

    assert there.tolist() == [1, 2]
    assert device.to_device(there) is there
    assert device.to_host(here) is here
    assert device.to_host(there).tolist() == [1, 2]
    assert device.to_host(there) is not there


def test_fetching_indices_waits_for_the_current_stream(device):
    indices, tensor = device.to_device(torch.tensor([1])), settled_zeros(device)
    put(device, tensor, 7)

    device.to_host(indices)

    assert int(tensor[0]) == 7


def test_copy_to_pageable_memory_blocks_the_host(device):
    source, target = settled_zeros(device), device.host_empty((4,), torch.uint8, pin_memory=False)
    put(device, source, 7)

    copy(device, source, target)

    assert target.tolist() == [7] * 4
    device.host_access(label="use", reads=(tensor_access(target),), writes=())
    assert device.races == []


def test_copy_from_pageable_memory_reads_it_at_launch(device):
    source, target = torch.ones(4, dtype=torch.uint8), settled_zeros(device)

    copy(device, source, target, stream=device.new_stream("load"))
    device.host_access(label="reuse", reads=(), writes=(tensor_access(source),))
    assert device.races == []

    device.host_access(label="look", reads=(tensor_access(target),), writes=())
    assert len(device.races) == 1


def test_copy_to_pinned_memory_does_not_block_the_host(device):
    source, target = settled_zeros(device), device.host_empty((4,), torch.uint8, pin_memory=True)
    put(device, source, 7)

    copy(device, source, target)
    assert target.tolist() == [0xCB] * 4

    device.host_access(label="use", reads=(tensor_access(target),), writes=())
    device.synchronize()
    assert len(device.races) == 1
