"""Numbers of a built stack that move no byte, held against the scenario."""

from types import SimpleNamespace

import pytest
import torch

from assembler.allocators.free_pages import FreePageList
from traces.targets.common.runtime import NativeScenarioError
from traces.targets.native.reported_numbers import check_reported_numbers
from traces.targets.native.rows import host_pools_by_name, tensors_of
from traces.targets.native.scenarios import registry
from traces.targets.native.script import NativeScript

LINEAR = "mamba.falcon_h1.page_first.kernel.wb.p64.gb.tp4cp4pp5"
INDEXED = "hiradix_nsa.dsv32_fp8.page_first.kernel.wts.p64.ratio.tp1.file"


@pytest.fixture(params=[LINEAR, INDEXED])
def stage(request):
    built = NativeScript(registry()[request.param], device="cpu")
    for _ in built.play("build"):
        pass
    return built


def checked(stage):
    counter = stage._controller.layer_done_counter
    check_reported_numbers(
        stage._device_pools, host_pools_by_name(stage._group), stage._geometry, counter
    )


def test_buffers_come_by_name_whichever_was_made_first():
    first, second = torch.zeros(1), torch.ones(1)
    pool = SimpleNamespace(v_buffer=[second], _own=first, k_buffer=[first], label="x")

    assert [tensor.item() for tensor in tensors_of(pool)] == [0.0, 1.0]


def test_good_stack_says_what_it_is(stage):
    checked(stage)


@pytest.mark.parametrize("name", ["layer_num", "start_layer", "end_layer"])
def test_wrong_layer_of_the_device_pool_is_told(stage, name):
    pool = stage._device_pools.kvcache
    setattr(pool, name, getattr(pool, name) + 1)
    with pytest.raises(NativeScenarioError, match="device pool: layers must be those of the model"):
        checked(stage)


def test_wrong_page_size_of_the_device_pool_is_told(stage):
    stage._device_pools.kvcache.page_size *= 2
    with pytest.raises(
        NativeScenarioError, match="pages must be those of the scenario; expected 64, got 128"
    ):
        checked(stage)


def test_load_with_an_event_that_is_no_layers_is_told(stage):
    events = stage._controller.layer_done_counter.events(0).layer_events
    events.append(events[0])
    with pytest.raises(NativeScenarioError, match="load: must have an event a layer"):
        checked(stage)


def test_wrong_bytes_of_a_slot_are_told(stage):
    [host, *_] = host_pools_by_name(stage._group).values()
    host.size_per_token += 1
    with pytest.raises(NativeScenarioError, match="must count the bytes it holds"):
        checked(stage)


def test_refusal_without_its_owner_is_told(stage):
    [host, *_] = host_pools_by_name(stage._group).values()
    assert isinstance(host._free_page_list, FreePageList)
    host._free_page_list.subject = None
    with pytest.raises(NativeScenarioError, match="must name whose slots they are"):
        checked(stage)
