"""Peers that have less than this rank, in reductions to a minimum and in no other operation."""

import pytest
import torch
import torch.distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from traces.targets.sglang.peers import peer_behind, peer_with_fewer


@pytest.fixture
def group():
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield torch.distributed.group.WORLD
    torch.distributed.destroy_process_group()


def reduced(group, values, *, op=torch.distributed.ReduceOp.MIN):
    tensor = torch.tensor(values, dtype=torch.int)
    torch.distributed.all_reduce(tensor, op=op, group=group)
    return tensor.tolist()


def test_a_peer_that_is_behind_has_finished_nothing(group):
    with peer_behind():
        assert reduced(group, [2, 0, 5]) == [0, 0, 0]
    assert reduced(group, [2, 0, 5]) == [2, 0, 5]


def test_a_peer_with_fewer_lacks_the_last_page_of_the_tokens_asked_for(group):
    with peer_with_fewer(64, page_size=16):
        assert reduced(group, [64, 4, 32]) == [48, 4, 32]
    assert reduced(group, [64, 4, 32]) == [64, 4, 32]


def test_a_peer_is_short_only_where_it_is_said_to_be(group):
    is_short = False
    with peer_with_fewer(64, page_size=16, is_short=lambda: is_short):
        assert reduced(group, [64]) == [64]
        is_short = True
        assert reduced(group, [64]) == [48]


@pytest.mark.parametrize("op", [torch.distributed.ReduceOp.MAX, torch.distributed.ReduceOp.SUM])
def test_other_reductions_stay_as_they_are(group, op):
    with peer_behind():
        assert reduced(group, [2, 5], op=op) == [2, 5]
