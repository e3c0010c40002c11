"""Numbers of a built stack that move no byte, held against the scenario."""

from types import SimpleNamespace

import pytest
import torch

from assembler.allocators.ledger import PageLedger
from traces.scenarios import registry
from traces.targets.native_device import StageError
from traces.targets.native_numbers import check_numbers
from traces.targets.native_rows import host_pools, tensors_of
from traces.targets.native_stage import NativeStage

LINEAR = "mamba.falcon_h1.page_first.kernel.wb.p64.gb.tp4cp4pp5"
INDEXED = "hiradix_nsa.dsv32_fp8.page_first.kernel.wts.p64.ratio.tp1.file"


@pytest.fixture(params=[LINEAR, INDEXED])
def stage(request):
    built = NativeStage(registry()[request.param], device="cpu")
    for _ in built.play("build"):
        pass
    return built


def checked(stage):
    counter = stage._controller.layer_done_counter
    check_numbers(stage._side, host_pools(stage._group), stage._geometry, counter)


def test_buffers_come_by_name_whichever_was_made_first():
    first, second = torch.zeros(1), torch.ones(1)
    pool = SimpleNamespace(v_buffer=[second], _own=first, k_buffer=[first], label="x")

    assert [tensor.item() for tensor in tensors_of(pool)] == [0.0, 1.0]


def test_good_stack_says_what_it_is(stage):
    checked(stage)


@pytest.mark.parametrize("name", ["layer_num", "start_layer", "end_layer"])
def test_wrong_layer_of_the_device_pool_is_told(stage, name):
    pool = stage._side.kvcache
    setattr(pool, name, getattr(pool, name) + 1)
    with pytest.raises(StageError, match="device pool: layers must be those of the model"):
        checked(stage)


def test_wrong_page_size_of_the_device_pool_is_told(stage):
    stage._side.kvcache.page_size *= 2
    with pytest.raises(
        StageError, match="pages must be those of the scenario; expected 64, got 128"
    ):
        checked(stage)


def test_load_with_an_event_that_is_no_layers_is_told(stage):
    events = stage._controller.layer_done_counter.events(0).layer_events
    events.append(events[0])
    with pytest.raises(StageError, match="load: must have an event a layer"):
        checked(stage)


def test_wrong_bytes_of_a_slot_are_told(stage):
    [host, *_] = host_pools(stage._group).values()
    host.size_per_token += 1
    with pytest.raises(StageError, match="must count the bytes it holds"):
        checked(stage)


def test_refusal_without_its_owner_is_told(stage):
    [host, *_] = host_pools(stage._group).values()
    assert isinstance(host._ledger, PageLedger)
    host._ledger.subject = None
    with pytest.raises(StageError, match="must name whose slots they are"):
        checked(stage)
