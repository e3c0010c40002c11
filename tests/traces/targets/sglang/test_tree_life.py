"""What a tree processes while a peer has finished nothing: nothing, however it counts."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed

from traces.targets.sglang.tree_life import TreeLife


class Tree:
    """A tree that has finished two copies on this rank, and asks the others; or does not."""

    def __init__(self, *, asks):
        self.processed = 0
        self._asks = asks

    def writing_check(self):
        number = torch.tensor(2)
        if self._asks:
            torch.distributed.all_reduce(number, op=torch.distributed.ReduceOp.MIN)
        self.processed += int(number)


@pytest.mark.parametrize(("asks", "processed"), [(True, 0), (False, 2)])
@pytest.mark.usefixtures("peer")
def test_a_tree_that_counts_for_itself_is_asked_to(asks, processed):
    tree = Tree(asks=asks)
    life = object.__new__(TreeLife)
    life._stack = SimpleNamespace(cache=tree)
    life._device = SimpleNamespace(synchronize=lambda: None)
    life._driver = SimpleNamespace(poll=lambda: None)
    life._finish_before_a_peer()
    assert tree.processed == processed
