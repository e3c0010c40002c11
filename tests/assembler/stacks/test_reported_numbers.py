"""Numbers a built stack reports about itself: layers, pages, bytes of a slot, names in errors.

Schedulers and people read them; no transfer shows them, so no golden holds them.
"""

import pytest

from assembler.errors import PoolError
from traces.simulator import SimDevice, default_schedule
from traces.targets.native.explore.faults import FaultInjector
from traces.targets.native.explore.small_stack import build_small_stack
from traces.targets.native.models import MODELS
from traces.targets.native.pools import geometry_of
from traces.targets.native.rows import tensors_of
from traces.targets.native.scenarios import registry

ONE_OF_EACH_MODEL = list({s.model: s.name for s in registry().values()}.values())


@pytest.fixture(scope="module", params=ONE_OF_EACH_MODEL)
def scenario(request):
    return registry()[request.param]


@pytest.fixture(scope="module")
def stack(scenario):
    device = SimDevice(schedule=default_schedule(), capacity_bytes=None, raise_races=False)
    return build_small_stack(scenario, device=device, faults=FaultInjector())


def layers(pool):
    return pool.layer_num, pool.start_layer, pool.end_layer


def test_every_model_is_tested():
    assert {registry()[name].model for name in ONE_OF_EACH_MODEL} == set(MODELS)


def test_device_pool_reports_the_layers_of_the_model(scenario, stack):
    geometry = geometry_of(scenario)
    model = geometry.model
    layer_num = len(model.full_layers + model.swa_layers)

    assert layers(stack.side.kvcache) == (layer_num, geometry.start_layer, geometry.end_layer)


def test_device_pool_reports_the_page_size_of_the_scenario(scenario, stack):
    assert stack.side.kvcache.page_size == scenario.page_size


def test_load_has_one_event_for_each_layer(stack):
    counter = stack.controller.layer_done_counter
    events = [len(counter.events(place).layer_events) for place in range(counter.num_counters)]

    assert events == [counter.layer_num] * counter.num_counters


def test_host_pool_reports_the_layers_of_its_device_pool(stack):
    for host in stack.mirrors.values():
        assert host.layer_num == host.device_pool.layer_num


def test_host_pool_counts_the_bytes_it_holds(stack):
    for host in stack.mirrors.values():
        held = sum(tensor.nbytes for tensor in tensors_of(host))
        # Where a row of index keys stands for a page, the page of slot 0 has one as well.
        spare_slots = host.page_size if 1 < host.slots_per_row == host.page_size else 0
        assert held == (host.size + spare_slots) * host.size_per_token


def test_refused_allocation_names_the_owner_of_the_slots(stack):
    owners = [
        *stack.device_slots.values(),
        *(entry.host_pool for entry in stack.cache.host_pool_group.entries),
    ]
    for owner in owners:
        # The class's own method: the stack's is wrapped to inject faults.
        with pytest.raises(PoolError, match=rf"^{type(owner).__name__}: "):
            type(owner).alloc(owner, -1)
