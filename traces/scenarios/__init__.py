"""Scenario registry: what every target is asked to play."""

from functools import cache

from traces.scenarios.matrix import (
    BUILDERS,
    GROUPS,
    INIT_HICACHE,
    GroupShape,
    Scenario,
    covering_array,
)
from traces.scenarios.models import MODELS, Attention, Model, PoolFamily, State

__all__ = [
    "BUILDERS",
    "GROUPS",
    "INIT_HICACHE",
    "MODELS",
    "Attention",
    "GroupShape",
    "Model",
    "PoolFamily",
    "Scenario",
    "State",
    "registry",
]


@cache
def registry() -> dict[str, Scenario]:
    """Return every scenario by name, in order of builder and covering array.

    Raises:
        ValueError: two scenarios have one name.
    """
    scenarios = covering_array()
    named = {scenario.name: scenario for scenario in scenarios}
    if len(named) != len(scenarios):
        expected, got = len(scenarios), len(named)
        raise ValueError(f"registry: scenario names are unique; expected {expected}, got {got}")
    return named
