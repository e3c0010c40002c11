"""Configurations of random traffic: scenario, seed and scheduling policy."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

POLICIES = ("latest", "earliest", "starve", "random")


class TrafficScenario(Protocol):
    """A scenario of the target under traffic."""

    @property
    def name(self) -> str:
        """Name in the target's registry."""

    @property
    def builder(self) -> str:
        """Stack builder or entry point."""

    @property
    def config(self) -> dict[str, Any]:
        """Every axis with its value."""

    @property
    def has_traffic(self) -> bool:
        """True where random traffic may run on the scenario."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficConfig:
    """One run of random traffic.

    Attributes:
        seed: of the traffic, its bytes and the schedule.
        policy: of the simulated device's schedule, one of ``POLICIES``.
    """

    scenario: TrafficScenario
    seed: int
    policy: str


def draw_config(
    *,
    scenarios: Mapping[str, TrafficScenario],
    builder: str,
    seed: int,
    run: int,
    policies: Sequence[str],
) -> TrafficConfig:
    """Return the configuration of one run of a builder; the same arguments give the same one.

    ``seed`` is that of the whole exploration; at least one scenario has the builder.
    """
    label = f"{seed}/{builder}/{run}"
    chance = random.Random(hashlib.sha256(label.encode()).digest())
    own = [one for one in scenarios.values() if one.builder == builder and one.has_traffic]
    return TrafficConfig(
        scenario=chance.choice(own),
        policy=chance.choice(list(policies)),
        seed=chance.getrandbits(32),
    )
