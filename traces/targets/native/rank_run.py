"""Runs of one storage scenario on several ranks, each with a recording of its own."""

from dataclasses import replace
from functools import partial

from torch import distributed

from assembler.groups import ProcessGroup
from traces.schema.model import Recording
from traces.targets.common.ranks import RankBackend, run_on_ranks
from traces.targets.common.scenario import RankShape
from traces.targets.native.pools import RankGroups
from traces.targets.native.run import open_storage_script, record_steps
from traces.targets.native.scenarios import GROUPS, StorageScenario


def record_on_ranks(
    scenario: StorageScenario, *, device: str, backend: RankBackend, seconds: float
) -> list[Recording]:
    """Run a scenario on every rank of its shape, in real process groups; return the recordings.

    Every pipeline stage runs it with the layers of its own. With NCCL a rank uses the device of its
    own among those of the kind ``device``. A rank whose scenario fails is part of
    the result, as its outcome.

    Raises:
        ForkError: a rank died or did not end in time.
    """
    shape = GROUPS[scenario.groups]
    stages = tuple(replace(scenario, groups=name) for name in _stage_shapes(shape))
    return run_on_ranks(
        shape.tp_size * shape.pp_size,
        partial(_record_rank, stages=stages, shape=shape, device=device, backend=backend),
        backend=backend,
        seconds=seconds,
    )


def _record_rank(
    rank: int,
    *,
    stages: tuple[StorageScenario, ...],
    shape: RankShape,
    device: str,
    backend: RankBackend,
) -> Recording:
    own = stages[rank // shape.tp_size]
    groups = rank_groups_of(rank, shape, backend=backend)
    if backend == "nccl":
        device = f"{device}:{rank}"
    return record_steps(own, open_storage_script(own, device=device, groups=groups))


def rank_groups_of(rank: int, shape: RankShape, *, backend: RankBackend) -> RankGroups:
    """Make the groups of a rank of a shape; every rank must call it.

    A stage has ``tp_size`` ranks that follow each other. In it neighbours share the heads, and
    equal places share the sequence; equal places of the stages are a group as well.
    """
    tp_size, heads = shape.tp_size, shape.attn_tp_size or shape.tp_size
    world = range(tp_size * shape.pp_size)
    stages = [world[first : first + tp_size] for first in world[::tp_size]]
    members = {
        "tp": stages,
        "attn_tp": [stage[at : at + heads] for stage in stages for at in range(0, tp_size, heads)],
        "attn_cp": [stage[place::heads] for stage in stages for place in range(heads)],
        "pp": [world[place::tp_size] for place in range(tp_size)],
    }
    wanted = {
        "tp": True,
        "attn_tp": shape.attn_tp_size > 0,
        "attn_cp": shape.attn_cp_size > 0,
        "pp": shape.pp_size > 1,
    }
    own: dict[str, ProcessGroup] = {}
    for tag in (tag for tag, is_wanted in wanted.items() if is_wanted):
        for ranks in members[tag]:
            group = distributed.new_group(list(ranks), backend=backend, group_desc=tag)
            if rank in ranks:
                own[tag] = group
    return RankGroups(
        tp=own["tp"], attn_cp=own.get("attn_cp"), attn_tp=own.get("attn_tp"), pp=own.get("pp")
    )


def _stage_shapes(shape: RankShape) -> list[str]:
    """Return the names of a shape at every stage of its pipeline, the first stage first."""
    named = {
        other.pp_rank: name
        for name, other in GROUPS.items()
        if replace(other, pp_rank=shape.pp_rank) == shape
    }
    return [named[stage] for stage in range(shape.pp_size)]
