"""Covering arrays over the axes of scenarios, deterministic, from ``covertable``."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from traces.targets.common.scenario import Scenario

Row: TypeAlias = dict[str, Any]
"""Axes by name, with one value each."""
_ScenarioT = TypeVar("_ScenarioT", bound=Scenario)


def covering_rows(
    axes: Mapping[str, Sequence[Any]],
    *,
    constraints: list[Row],
    presets: list[Row],
    strength: int = 2,
) -> list[Row]:
    """Return rows that contain every possible combination of the values of ``strength`` axes.

    The values of an axis are in the order in which they are preferred; ``presets`` are rows that
    the array starts from, some perhaps without all axes. For constraints see :func:`implies`.
    """
    # Imported late: a worker that is handed a scenario needs no covering array.
    import covertable

    values = {name: list(choices) for name, choices in axes.items()}
    rows = covertable.make(values, strength=strength, constraints=constraints, presets=presets)
    return list(rows)


def implies(field: str, values: Sequence[Any], other: str, allowed: Sequence[Any]) -> Row:
    """Return the constraint: where ``field`` is one of ``values``, ``other`` is in ``allowed``."""
    premise = {"operator": "in", "left": field, "values": list(values)}
    conclusion = {"operator": "in", "left": other, "values": list(allowed)}
    return {"operator": "or", "conditions": [{"operator": "not", "condition": premise}, conclusion]}


def builder_constraints(builders: Mapping[str, Sequence[str]]) -> list[Row]:
    """Return the constraints that each builder gets only models it accepts."""
    return [implies("builder", [name], "model", models) for name, models in builders.items()]


def scenarios_by_name(
    rows: Iterable[Row], *, make: Callable[..., _ScenarioT], builders: Iterable[str]
) -> dict[str, _ScenarioT]:
    """Return the scenarios of some rows by name, in order of builder and name.

    Raises:
        ValueError: two scenarios have one name.
    """
    order, made = list(builders), [make(**row) for row in rows]
    scenarios = sorted(made, key=lambda one: (order.index(one.builder), one.name))
    named = {scenario.name: scenario for scenario in scenarios}
    if len(named) != len(scenarios):
        expected, got = len(scenarios), len(named)
        raise ValueError(f"registry: scenario names are unique; expected {expected}, got {got}")
    return named
