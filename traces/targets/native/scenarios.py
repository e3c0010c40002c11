"""Scenario registry: what every target is asked to play."""

from functools import cache

from traces.targets.native.matrix import (
    BUILDERS,
    GROUPS,
    INIT_HICACHE,
    GroupShape,
    NativeScenario,
    covering_array,
)
from traces.targets.native.models import (
    MODELS,
    AttentionShape,
    MambaStateShape,
    ModelShape,
    PoolFamily,
)

__all__ = [
    "BUILDERS",
    "GROUPS",
    "INIT_HICACHE",
    "MODELS",
    "AttentionShape",
    "GroupShape",
    "MambaStateShape",
    "ModelShape",
    "NativeScenario",
    "PoolFamily",
    "registry",
]


@cache
def registry() -> dict[str, NativeScenario]:
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
