"""Registry of the scenarios of the sglang target. Nothing here imports torch or sglang."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache

from traces.targets.sglang.configurator_scenarios import configurator_scenarios
from traces.targets.sglang.hisparse_scenarios import hisparse_scenarios
from traces.targets.sglang.product_rows import product_scenarios
from traces.targets.sglang.scenarios import SglangScenario, stack_scenarios


@cache
def registry() -> dict[str, SglangScenario]:
    """Return every scenario by name: those with a stack and traffic, then the others.

    The others assemble many stacks without moving a byte, let the release make its pools, or have
    no stack.
    """
    stacks = stack_scenarios()
    readers = {scenario.name: replace(scenario, reads_pages=True) for scenario in _first(stacks)}
    others = (*product_scenarios(), *configurator_scenarios(), *hisparse_scenarios())
    return {**stacks, **readers, **{scenario.name: scenario for scenario in others}}


def _first(scenarios: Mapping[str, SglangScenario]) -> Iterable[SglangScenario]:
    """Return the first scenario of each model, host layout and kind of draft.

    These three decide the classes of the host pools and where their bytes lie.
    """
    first: dict[tuple[str, str, str], SglangScenario] = {}
    for scenario in scenarios.values():
        first.setdefault((scenario.model, scenario.layout, scenario.draft), scenario)
    return first.values()
