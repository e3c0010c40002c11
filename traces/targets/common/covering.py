"""Covering arrays over the axes of scenarios, deterministic, from ``covertable``."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from traces.targets.common.scenario import Scenario

Row: TypeAlias = dict[str, Any]
"""Axes by name, with one value each."""
_ScenarioT = TypeVar("_ScenarioT", bound=Scenario)

_folder: Path | None = None
"""Directory of the arrays that were computed before; none is kept without one."""


def keep_rows_in(folder: Path) -> None:
    """Keep every array that is computed from now on in a directory, and read it from there.

    An array of many axes takes seconds; its file is named for all that it depends on.
    """
    global _folder  # noqa: PLW0603 - one for the process, as the modules of scenarios are
    _folder = folder


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
    values = {name: list(choices) for name, choices in axes.items()}
    asked = {"strength": strength, "constraints": constraints, "presets": presets}
    file = _folder and _folder / f"{_digest([values, asked, version('covertable')])}.json"
    kept = _read_rows(file) if file else None
    if kept is not None:
        return kept
    # Imported late: a worker that is handed a scenario needs no covering array.
    import covertable

    rows = list(covertable.make(values, **asked))
    if file:
        _write_rows(file, rows)
    return rows


def _digest(asked: object) -> str:
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _read_rows(file: Path) -> list[Row] | None:
    """Return the rows of a file; None when there is none or it is damaged."""
    try:
        digest, _, text = file.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        return None
    rows: list[Row] = json.loads(text)
    return rows


def _write_rows(file: Path, rows: list[Row]) -> None:
    text = json.dumps(rows)
    # A disk without room for it costs time, and no verdict.
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")
        Path(name).replace(file)


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
