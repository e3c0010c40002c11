"""Operations of process groups as events: who takes part, in which group, with what."""

import inspect

import pytest
import torch
import torch.distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from traces.recording.instrument import instrumented
from traces.recording.probes import GroupNaming
from traces.recording.torch_collectives import collective_probes, pending_operations


@pytest.fixture
def groups():
    """A default group of four ranks and one of the ranks 1 and 2; this process is rank 2."""
    torch.distributed.init_process_group("fake", rank=2, world_size=4, store=FakeStore())
    yield {"pair": torch.distributed.new_group([1, 2])}
    torch.distributed.destroy_process_group()


@pytest.fixture
def observed(groups):
    seen = []

    def named(group):
        known = torch.distributed.group.WORLD if group is None else group
        ranks = tuple(torch.distributed.get_process_group_ranks(known))
        role = "pair" if known is groups["pair"] else "world"
        return GroupNaming(role=role, ranks=ranks, rank=known.rank())

    def hook(probe):
        def called(original, args, kwargs):
            result = original(*args, **kwargs)
            bound = probe.signature.bind(*args, **kwargs)
            bound.apply_defaults()
            seen.append(probe.observe(bound.arguments, result))
            return result

        return called

    class Bound:
        def __init__(self, probe):
            self.signature = inspect.signature(probe.function)
            self.observe = probe.observe

    hooks = {probe.function: hook(Bound(probe)) for probe in collective_probes(named)}
    with instrumented(hooks):
        yield seen


def facts(observation):
    group = observation.group
    return observation.operation, observation.reduction, group.role, group.ranks, group.rank


def test_a_reduction_has_its_group_and_what_it_reduces(groups, observed):
    counts = torch.zeros(3, dtype=torch.int64)
    torch.distributed.all_reduce(counts, op=torch.distributed.ReduceOp.MIN, group=groups["pair"])
    torch.distributed.all_reduce(counts)

    assert [facts(one) for one in observed] == [
        ("all_reduce", "MIN", "pair", (1, 2), 1),
        ("all_reduce", "SUM", "world", (0, 1, 2, 3), 2),
    ]
    assert [(one.dtype, one.shape, one.peer) for one in observed] == [("int64", (3,), None)] * 2


def test_a_peer_is_told_by_its_global_rank(groups, observed):
    torch.distributed.broadcast(torch.zeros(2), src=1, group=groups["pair"])
    torch.distributed.broadcast(torch.zeros(2), group_src=0, group=groups["pair"])

    assert [(one.operation, one.peer) for one in observed] == [("broadcast", 1)] * 2


def test_a_barrier_moves_nothing(groups, observed):
    torch.distributed.barrier(group=groups["pair"])

    (only,) = observed
    assert (only.operation, only.reduction, only.dtype, only.shape) == ("barrier", "", "", ())


def test_questions_about_a_group_are_no_operations(groups, observed):
    assert torch.distributed.get_world_size(groups["pair"]) == 2
    assert torch.distributed.get_rank(groups["pair"]) == 1

    assert observed == []


def test_a_wait_for_a_send_is_observed_with_its_group_and_peer(groups, observed):
    with pending_operations():
        work = torch.distributed.isend(torch.zeros(3), group_dst=0, group=groups["pair"])
        assert [one.operation for one in observed] == ["isend"]
        work.wait()

    assert [facts(one) for one in observed] == [
        ("isend", "", "pair", (1, 2), 1),
        ("isend waited for", "", "pair", (1, 2), 1),
    ]
    assert [(one.dtype, one.shape, one.peer) for one in observed] == [("float32", (3,), 1)] * 2


def test_an_operation_that_has_ended_gives_nothing_to_wait_for(groups, observed):
    with pending_operations():
        assert torch.distributed.all_reduce(torch.zeros(1), group=groups["pair"]) is None
        pending = torch.distributed.all_reduce(torch.zeros(1), group=groups["pair"], async_op=True)
    # The fake group never says that it has ended.
    assert not pending.is_completed()
    assert [one.operation for one in observed] == ["all_reduce"] * 2
