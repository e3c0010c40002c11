import pytest
import torch

from assembler.cache.nodes import NO_SLOTS, CacheNode, ComponentSlots
from assembler.names import ComponentType
from assembler.owner import EvictParams

FULL, SWA, MAMBA = ComponentType.FULL, ComponentType.SWA, ComponentType.MAMBA
SLOTS = torch.arange(4)


def test_node_knows_what_the_device_lacks():
    node = CacheNode(
        id=0, device=ComponentSlots(full=SLOTS), host=ComponentSlots(full=SLOTS, swa=SLOTS)
    )

    assert node.missing_on_device() == [SWA]
    assert node.is_backed_up
    assert not node.is_evicted


@pytest.mark.parametrize("component", ComponentType)
def test_slots_of_every_component_are_given_and_taken_back(component):
    given = NO_SLOTS.with_slots(component, SLOTS)

    assert given[component] is SLOTS
    assert list(given) == [component]
    assert len(given) == 1
    taken = given.with_slots(component, None)
    assert component not in taken
    assert taken.get(component) is None
    assert not taken
    assert not NO_SLOTS


def test_slots_stand_in_the_order_of_the_components():
    given = NO_SLOTS.with_slots(MAMBA, SLOTS).with_slots(FULL, SLOTS).with_slots(SWA, SLOTS)

    assert list(given) == [FULL, SWA, MAMBA]


def test_only_components_have_slots():
    assert "full " not in ComponentSlots(full=SLOTS)
    assert "__len__" not in ComponentSlots(full=SLOTS)
    assert FULL in ComponentSlots(full=SLOTS)


def test_eviction_wish_by_component():
    wish = EvictParams(num_tokens=1, swa_num_tokens=2, mamba_num=3)

    assert wish.wanted() == {FULL: 1, SWA: 2, MAMBA: 3}
    assert EvictParams().wanted() == {FULL: 0, SWA: 0, MAMBA: 0}
