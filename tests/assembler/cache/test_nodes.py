import pytest
import torch

from assembler.cache.nodes import CacheNode, LruNodes
from assembler.errors import AssemblyError
from assembler.names import ComponentType
from assembler.owner import EvictParams

FULL, SWA, MAMBA = ComponentType.FULL, ComponentType.SWA, ComponentType.MAMBA
SLOTS = torch.arange(4)


def test_nodes_come_out_in_order_of_last_use():
    ledger = LruNodes()
    first, second, third = (ledger.add({FULL: SLOTS}) for _ in range(3))

    ledger.touch(first)

    assert list(ledger) == [second, third, first]


def test_ids_are_never_used_again():
    ledger = LruNodes()
    node = ledger.add({FULL: SLOTS})
    ledger.remove(node)

    assert ledger.add({FULL: SLOTS}).id == 1
    ledger.clear()
    assert ledger.add({FULL: SLOTS}).id == 2


def test_node_that_left_cannot_be_used():
    ledger = LruNodes()
    node = ledger.add({FULL: SLOTS})
    ledger.remove(node)

    with pytest.raises(
        AssemblyError, match="node 0: must be cached; expected a node of this cache"
    ):
        ledger.touch(node)


def test_node_of_another_ledger_cannot_be_used():
    ledger = LruNodes()
    ledger.add({FULL: SLOTS})

    with pytest.raises(AssemblyError, match="must be cached"):
        ledger.touch(LruNodes().add({FULL: SLOTS}))


def test_node_knows_what_the_device_lacks():
    node = CacheNode(id=0, device={FULL: SLOTS}, host={FULL: SLOTS, SWA: SLOTS})

    assert node.missing_on_device() == [SWA]
    assert node.is_backed_up
    assert not node.is_evicted


def test_eviction_wish_by_component():
    wish = EvictParams(num_tokens=1, swa_num_tokens=2, mamba_num=3)

    assert wish.wanted() == {FULL: 1, SWA: 2, MAMBA: 3}
    assert EvictParams().wanted() == {FULL: 0, SWA: 0, MAMBA: 0}
