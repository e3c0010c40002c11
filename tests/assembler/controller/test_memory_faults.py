"""Device memory that runs out while copies are prepared: nothing is lost."""

from functools import partial

import pytest

from assembler.errors import OutOfDeviceMemoryError
from tests.assembler.controller.slots import SOURCE, take
from tests.assembler.small_models import mha_pool, params_of
from tests.assembler.stacks.builder_calls import kv_only
from traces.simulator import Schedule, SchedulePolicy, SimDevice


@pytest.mark.parametrize("direction", ["backup", "load"])
def test_a_copy_without_device_memory_for_its_indices_gives_every_slot_back(direction):
    schedule = Schedule(seed=0, policy=SchedulePolicy.LATEST)
    device = SimDevice(schedule=schedule, capacity_bytes=None, raise_races=True)
    params = params_of(mha_pool(device))
    group, controller = kv_only(params)
    slots = take(params, SOURCE)
    host_slots = controller.write(slots)
    device.synchronize()
    allocator = params.token_to_kv_pool_allocator
    free = group.available_size(), allocator.available_size()

    if direction == "backup":
        copy = partial(controller.write, slots)
        device.memory.fail(after=0)
    else:
        controller.load(host_slots)
        copy = controller.start_loading
        device.memory.fail(after=0)
    with pytest.raises(OutOfDeviceMemoryError):
        copy()

    assert (group.available_size(), allocator.available_size()) == free
    assert (controller.write_queue, controller.load_queue) == ([], [])
    assert controller.write(slots) is not None
    device.synchronize()
