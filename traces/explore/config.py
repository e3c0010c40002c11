"""Which scenario a run plays, on which schedule: a function of the seed and nothing else."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from traces.targets.native.scenarios import NativeScenario

POLICIES = ("latest", "earliest", "starve", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficConfig:
    """What traffic runs on.

    Attributes:
        scenario: the configuration of the stack.
        seed: of the traffic, its bytes and the schedule.
        policy: how the simulated device chooses what happens next, one of ``POLICIES``.
    """

    scenario: NativeScenario
    seed: int
    policy: str


def draw_config(
    *,
    scenarios: Mapping[str, NativeScenario],
    builder: str,
    seed: int,
    run: int,
    policies: Sequence[str],
) -> TrafficConfig:
    """Return the case of one run of a builder.

    Args:
        scenarios: of all builders, by name.
        builder: whose turn it is; at least one scenario is its own.
        seed: of the whole exploration.
        run: number of the run, from 0.
        policies: to choose from.
    """
    label = f"{seed}/{builder}/{run}"
    chance = random.Random(hashlib.sha256(label.encode()).digest())
    own = [scenario for scenario in scenarios.values() if scenario.builder == builder]
    return TrafficConfig(
        scenario=chance.choice(own),
        policy=chance.choice(list(policies)),
        seed=chance.getrandbits(32),
    )
