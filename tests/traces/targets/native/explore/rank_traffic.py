"""Random traffic of several ranks over one simulated device, a host thread for each.

The threads take turns under the case's schedule, so that a case is one execution: the traffic, its
bytes, the turns of the threads and what the device does follow from seed and policy.
"""

import random
from dataclasses import dataclass, replace
from functools import partial

from traces.explore import steps as ops
from traces.explore.config import TrafficConfig
from traces.explore.steps import TrafficStep, describe_step
from traces.explore.subject import ViolationError
from traces.targets.native.explore.small_stack import open_simulated_device
from traces.targets.native.explore.subject import NativeTrafficSubject


@dataclass(frozen=True, slots=True, kw_only=True)
class RanksRun:
    """What the ranks did.

    Attributes:
        steps: rank and step in words, in the order in which they were begun.
        decisions: of the schedule.
        violation: the first one, after which the other ranks were stopped; None for none.
    """

    steps: tuple[str, ...]
    decisions: str
    violation: ViolationError | None


def run_ranks(case: TrafficConfig, *, rank_num: int, step_num: int) -> RanksRun:
    """Run traffic on ``rank_num`` stacks of one device, at least ``step_num`` steps on each."""
    device = open_simulated_device(case)
    steps: list[str] = []

    def traffic(rank: int) -> None:
        own = replace(case, seed=case.seed + rank)
        subject = NativeTrafficSubject(own, device)
        chance = random.Random(own.seed)
        taken, inserted = 0, 0
        while taken < step_num:
            nodes = subject.live_nodes()
            node = chance.choice(nodes) if nodes else inserted
            for step in _draw_steps(chance, node=node, new_node=inserted):
                steps.append(f"rank {rank}: {describe_step(step)}")
                subject.apply(step)
                taken += 1
                inserted += isinstance(step, ops.Insert)
        subject.finish()

    violation: ViolationError | None = None
    try:
        with device.threads() as threads:
            for rank in range(rank_num):
                threads.start(partial(traffic, rank), name=f"rank {rank}")
    except ViolationError as error:
        violation = error
    return RanksRun(steps=tuple(steps), decisions=device.schedule.log(), violation=violation)


def _draw_steps(chance: random.Random, *, node: int, new_node: int) -> tuple[TrafficStep, ...]:
    """Return a few steps that belong together."""
    pages = chance.randint(1, 2)
    put_away = (
        ops.Insert(node=new_node, pages=pages),
        ops.Backup(node=new_node),
        ops.CheckWrites(wait=True),
        ops.Evict(part="full", pages=6),
    )
    bring_back = (ops.LoadBack(node=node), ops.Launch(), ops.Forward(node=node))
    others: tuple[tuple[TrafficStep, ...], ...] = (
        (ops.Insert(node=new_node, pages=pages), ops.Backup(node=new_node)),
        (ops.AbortRequest(pages=pages),),
        (ops.Backup(node=node),),
        (ops.CheckWrites(wait=False),),
        (ops.LoadBack(node=node), ops.Launch()),
        (ops.Forward(node=node),),
        (ops.CheckLoads(),),
        (ops.Evict(part="full", pages=pages),),
        (ops.EvictHost(part="full", pages=pages),),
        (ops.StepDevice(),),
        (ops.DrainQueues(),),
    )
    return chance.choice((put_away, put_away, bring_back, bring_back, *others))
