"""Registry of the scenarios of the sglang target. Nothing here imports torch or sglang."""

from functools import cache

from traces.targets.sglang.product_rows import product_scenarios
from traces.targets.sglang.scenarios import (
    SglangScenario,
    configurator_scenarios,
    stack_scenarios,
)


@cache
def registry() -> dict[str, SglangScenario]:
    """Return every scenario by name: those with a stack and traffic, then the others.

    The others assemble many stacks without moving a byte, or let the release make its pools.
    """
    others = (*product_scenarios(), *configurator_scenarios())
    return {**stack_scenarios(), **{scenario.name: scenario for scenario in others}}
