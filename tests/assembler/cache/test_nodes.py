import torch

from assembler.cache.nodes import CacheNode
from assembler.names import ComponentType
from assembler.owner import EvictParams

FULL, SWA, MAMBA = ComponentType.FULL, ComponentType.SWA, ComponentType.MAMBA
SLOTS = torch.arange(4)


def test_node_knows_what_the_device_lacks():
    node = CacheNode(id=0, device={FULL: SLOTS}, host={FULL: SLOTS, SWA: SLOTS})

    assert node.missing_on_device() == [SWA]
    assert node.is_backed_up
    assert not node.is_evicted


def test_eviction_wish_by_component():
    wish = EvictParams(num_tokens=1, swa_num_tokens=2, mamba_num=3)

    assert wish.wanted() == {FULL: 1, SWA: 2, MAMBA: 3}
    assert EvictParams().wanted() == {FULL: 0, SWA: 0, MAMBA: 0}
