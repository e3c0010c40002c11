"""Peers that have less than this rank, in reductions to a minimum and in no other operation."""

import pytest
import torch
import torch.distributed

from traces.targets.sglang.peers import peer_behind, peer_with_fewer


def reduced(group, values, *, op=torch.distributed.ReduceOp.MIN):
    tensor = torch.tensor(values, dtype=torch.int)
    torch.distributed.all_reduce(tensor, op=op, group=group)
    return tensor.tolist()


def test_a_peer_that_is_behind_has_finished_nothing(peer):
    with peer_behind():
        assert reduced(peer, [2, 0, 5]) == [0, 0, 0]
    assert reduced(peer, [2, 0, 5]) == [2, 0, 5]


def test_a_peer_with_fewer_lacks_the_last_page_of_the_tokens_asked_for(peer):
    with peer_with_fewer(64, page_size=16):
        assert reduced(peer, [64, 4, 32]) == [48, 4, 32]
    assert reduced(peer, [64, 4, 32]) == [64, 4, 32]


def test_a_peer_is_short_only_where_it_is_said_to_be(peer):
    is_short = False
    with peer_with_fewer(64, page_size=16, is_short=lambda: is_short):
        assert reduced(peer, [64]) == [64]
        is_short = True
        assert reduced(peer, [64]) == [48]


@pytest.mark.parametrize("op", [torch.distributed.ReduceOp.MAX, torch.distributed.ReduceOp.SUM])
def test_other_reductions_stay_as_they_are(peer, op):
    with peer_behind():
        assert reduced(peer, [2, 5], op=op) == [2, 5]
