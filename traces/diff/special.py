"""Causes that are no difference of one record: of the scenario, of names, of the text."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from traces.diff.differences import Layer
from traces.diff.drafts import Draft
from traces.diff.pairing import Pairing
from traces.diff.places import Places
from traces.diff.side import Side, argument_values
from traces.diff.values import Value
from traces.model import Call
from traces.verdict import Cause, Kind, Level


def scenario_causes(base: Side, head: Side) -> Iterator[Draft]:
    """Yield the cause that the two scenarios are configured differently to begin with."""
    old, new = base.trace.scenario.config, head.trace.scenario.config
    keys = [key for key in {**old, **new} if _encoded(old, key) != _encoded(new, key)]
    if keys:
        yield Draft(
            kind=Kind.ARGUMENT_CHANGED,
            level=Level.FORMAT,
            capable=True,
            rank=(int(Layer.ASSEMBLY), -1),
            where="scenario configuration",
            before={key: old.get(key) for key in keys},
            after={key: new.get(key) for key in keys},
            callee="scenario",
            message=f"the scenario itself has another configuration: {', '.join(keys)}.",
        )


def rename_causes(
    pairing: Pairing, parameters: Mapping[str, str], places: Places
) -> Iterator[Draft]:
    """Yield one cause for every callee and every parameter that has a new name.

    Args:
        pairing: knows the callees.
        parameters: parameter of the base to that of the head.
        places: where they are defined.
    """
    callees: dict[tuple[str, str], list[Call]] = {}
    names: dict[tuple[str, str], list[Call]] = {}
    for pair in pairing.pairs:
        if pair.base.callee != pair.head.callee:
            callees.setdefault((pair.base.callee, pair.head.callee), []).append(pair.head)
        old, new = argument_values(pair.base), argument_values(pair.head)
        for parameter, name in parameters.items():
            if parameter in old and name in new and parameter not in new:
                names.setdefault((parameter, name), []).append(pair.head)
    for renamed, is_parameter in ((callees, False), (names, True)):
        for (before, after), calls in renamed.items():
            draft = _rename(before, after, calls, places)
            draft.parameter = after if is_parameter else None
            yield draft


def _rename(before: str, after: str, calls: Sequence[Call], places: Places) -> Draft:
    return Draft(
        kind=Kind.RENAMED,
        level=Level.INTERFACE,
        capable=False,
        rank=(int(Layer.ASSEMBLY), 2 * places.head.positions[calls[0].call] + 1),
        where=before,
        before=before,
        after=after,
        callee=calls[0].callee,
        location=places.of_definition(calls[0].callee),
        count=len(calls),
        message=f"{before} is now called {after}.",
    )


def format_causes(base: Side, head: Side) -> Iterator[Draft]:
    """Yield the cause that only the text differs: an order or a label without meaning."""
    same_schema = base.trace.schema == head.trace.schema
    yield Draft(
        kind=Kind.FORMAT_CHANGED,
        level=Level.FORMAT,
        capable=False,
        rank=(int(Layer.OUTCOME), len(head.calls)),
        where="trace",
        before=None if same_schema else base.trace.schema,
        after=None if same_schema else head.trace.schema,
        message="the traces say the same in another order or with other labels.",
    )


def lone_scenario(name: str, *, removed: bool) -> Cause:
    """Return the cause that only one side has a scenario."""
    return Cause(
        kind=Kind.SCENARIO_REMOVED if removed else Kind.SCENARIO_ADDED,
        level=Level.BEHAVIOUR,
        builder=None,
        callee=None,
        parameter=None,
        before=name if removed else None,
        after=None if removed else name,
        location=None,
        scenarios=(name,),
        consequences=(),
        where=name,
        path=(),
        variants=(),
        count=1,
        message=f"the scenario {name} is {'gone' if removed else 'new'}.",
        rank=(int(Layer.ASSEMBLY), -1),
    )


def _encoded(config: Mapping[str, Value], key: str) -> bytes:
    present = [config[key]] if key in config else []
    return msgspec.json.encode(present, order="sorted")
