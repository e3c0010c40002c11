"""Runs of one storage scenario on several ranks, each with a recording of its own."""

from torch import distributed

from traces.schema.model import Recording
from traces.targets.common.ranks import run_on_ranks
from traces.targets.native.pools import RankGroups
from traces.targets.native.run import open_storage_script, record_steps
from traces.targets.native.scenarios import GROUPS, StorageScenario


def record_on_ranks(scenario: StorageScenario, *, device: str, seconds: float) -> list[Recording]:
    """Run a scenario on every rank of its shape, in gloo process groups; return the recordings.

    A rank whose scenario fails is part of the result, as its outcome.

    Raises:
        ForkError: a rank died or did not end in time.
    """
    shape = GROUPS[scenario.groups]

    def work(rank: int) -> Recording:
        groups = rank_groups_of(rank, cp_size=shape.attn_cp_size, tp_size=shape.attn_tp_size)
        return record_steps(scenario, open_storage_script(scenario, device=device, groups=groups))

    return run_on_ranks(shape.tp_size, work, seconds=seconds)


def rank_groups_of(rank: int, *, cp_size: int, tp_size: int) -> RankGroups:
    """Make the groups of a rank: neighbours share the heads, equal places share the sequence.

    Every rank must call it.
    """
    world_size = cp_size * tp_size
    tp_members = [list(range(first, first + tp_size)) for first in range(0, world_size, tp_size)]
    cp_members = [list(range(first, world_size, tp_size)) for first in range(tp_size)]
    own = {}
    for tag, members in (("attn_tp", tp_members), ("attn_cp", cp_members)):
        for ranks in members:
            group = distributed.new_group(ranks, backend="gloo", group_desc=tag)
            if rank in ranks:
                own[tag] = group
    world = distributed.new_group(list(range(world_size)), backend="gloo", group_desc="tp")
    return RankGroups(tp=world, attn_cp=own["attn_cp"], attn_tp=own["attn_tp"])
