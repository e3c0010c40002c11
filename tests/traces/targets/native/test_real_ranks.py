"""Two real ranks: over gloo on every machine, over NCCL where each of them has a GPU."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
import torch
from torch import distributed

from assembler import collectives
from assembler.collectives import CacheRanks, CollectiveRole
from assembler.errors import CollectiveError
from traces import record
from traces.schema.collectives import Collective
from traces.targets.common.ranks import run_on_ranks
from traces.targets.native.rank_run import record_on_ranks
from traces.targets.native.scenarios import storage_scenarios

TREE = next(scenario for scenario in storage_scenarios() if scenario.tier == "tree")
SECONDS = 120

needs_two_gpus = [
    pytest.mark.cuda,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
]
on_every_backend = pytest.mark.parametrize(
    ("backend", "device"), [("gloo", "cpu"), pytest.param("nccl", "cuda", marks=needs_two_gpus)]
)


def world_named(name):
    """Return a group of all ranks, on the backend of the default group."""
    backend = distributed.get_backend()
    return distributed.new_group([0, 1], backend=backend, group_desc=name)


def joined(trace):
    return [
        (one.operation, one.reduction, one.group, one.ranks, one.rank, one.shape)
        for one in trace.events
        if isinstance(one, Collective)
    ]


def agree_on_everything(rank):
    ranks = CacheRanks.of(
        tp_group=None, attn_cp_group=None, attn_tp_group=world_named("attn_tp"), pp_group=None
    )
    with record(target="native") as recorded:
        agreed = {
            role.value: ranks.minimum([rank + 3, 2 - rank, 8], role=role) for role in CollectiveRole
        }
    return agreed, joined(recorded.trace)


@on_every_backend
def test_two_ranks_agree_on_the_least_and_their_group_is_recorded(backend, device):
    first, second = run_on_ranks(2, agree_on_everything, backend=backend, seconds=SECONDS)

    roles = [
        "write_acks",
        "load_acks",
        "hit_pages",
        "prefetch_hits",
        "prefetch_end",
        "prefetch_pages",
        "backup_ends",
    ]
    for rank, (agreed, collective_records) in enumerate((first, second)):
        assert agreed == {role: [3, 1, 8] for role in roles}
        # How finished copies are spread over polls depends on time: they are not recorded.
        expected = ("all_reduce", "MIN", "attn_tp", (0, 1), rank, (3,))
        assert collective_records == [expected] * 5


@on_every_backend
def test_ranks_record_on_their_devices_what_they_record_over_gloo(backend, device):
    stages = replace(TREE, groups="pp2s0")

    found = record_on_ranks(stages, device=device, backend=backend, seconds=SECONDS)
    expected = record_on_ranks(stages, device="sim", backend="gloo", seconds=SECONDS)

    assert [one.trace.outcome.ok for one in found] == [True, True]
    assert {(group, ranks) for _, _, group, ranks, _, _ in joined(found[0].trace)} == {
        ("pp.storage", (0, 1)),
        ("pp.prefetch", (0, 1)),
    }
    for one, other in zip(found, expected, strict=True):
        assert joined(one.trace) == joined(other.trace)
        assert msgspec.json.encode(one.trace) == msgspec.json.encode(other.trace)


def wait_for_a_rank_that_stalls(rank):
    collectives.TIMEOUT = timedelta(seconds=3)
    ranks = CacheRanks.of(
        tp_group=world_named("tp"), attn_cp_group=None, attn_tp_group=None, pp_group=None
    )
    agreed = ranks.minimum([rank + 5], role=CollectiveRole.LOAD_ACKS)
    if rank == 1:
        return agreed, "stalled"
    try:
        ranks.minimum([rank], role=CollectiveRole.LOAD_ACKS)
    except CollectiveError as error:
        return agreed, str(error)
    return agreed, "no error"


@on_every_backend
def test_a_rank_that_stalls_is_told_to_the_other_one(backend, device):
    first, second = run_on_ranks(2, wait_for_a_rank_that_stalls, backend=backend, seconds=SECONDS)

    # Control: the ranks had agreed before.
    assert second == ([5], "stalled")
    assert first[0] == [5]
    assert first[1].startswith(
        "group tp: every rank must take part in load_acks; expected ranks 0, 1, got"
    )
