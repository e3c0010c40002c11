"""Causes that are no difference of one record: of the scenario, of names, of the text."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from traces.diff.attribute.cause_builder import CauseBuilder
from traces.diff.differences import DiffLayer
from traces.diff.index import RecordingIndex, argument_values
from traces.diff.locations import LocationFinder
from traces.diff.pairing import CallPairing
from traces.diff.values import Value
from traces.schema.model import Call
from traces.schema.verdict import Cause, Kind, Level


def scenario_causes(base: RecordingIndex, head: RecordingIndex) -> Iterator[CauseBuilder]:
    """Yield the cause that the two scenarios are configured differently to begin with."""
    old, new = base.trace.scenario.config, head.trace.scenario.config
    keys = [key for key in {**old, **new} if _encoded(old, key) != _encoded(new, key)]
    if keys:
        yield CauseBuilder(
            kind=Kind.ARGUMENT_CHANGED,
            level=Level.FORMAT,
            can_explain=True,
            rank=(int(DiffLayer.ASSEMBLY), -1),
            where="scenario configuration",
            before={key: old.get(key) for key in keys},
            after={key: new.get(key) for key in keys},
            callee="scenario",
            message=f"the scenario itself has another configuration: {', '.join(keys)}.",
        )


def rename_causes(
    pairing: CallPairing, parameters: Mapping[str, str], locations: LocationFinder
) -> Iterator[CauseBuilder]:
    """Yield one cause for every callee and every parameter that has a new name.

    Args:
        pairing: knows the callees.
        parameters: parameter of the base to that of the head.
        locations: where they are defined.
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
            draft = _rename(before, after, calls, locations)
            draft.parameter = after if is_parameter else None
            yield draft


def _rename(
    before: str, after: str, calls: Sequence[Call], locations: LocationFinder
) -> CauseBuilder:
    return CauseBuilder(
        kind=Kind.RENAMED,
        level=Level.INTERFACE,
        can_explain=False,
        rank=(int(DiffLayer.ASSEMBLY), 2 * locations.head.positions[calls[0].call] + 1),
        where=before,
        before=before,
        after=after,
        callee=calls[0].callee,
        location=locations.of_definition(calls[0].callee),
        count=len(calls),
        message=f"{before} is now called {after}.",
    )


def format_causes(base: RecordingIndex, head: RecordingIndex) -> Iterator[CauseBuilder]:
    """Yield the cause that only the text differs: an order or a label without meaning."""
    same_schema = base.trace.schema == head.trace.schema
    yield CauseBuilder(
        kind=Kind.FORMAT_CHANGED,
        level=Level.FORMAT,
        can_explain=False,
        rank=(int(DiffLayer.OUTCOME), len(head.calls)),
        where="trace",
        before=None if same_schema else base.trace.schema,
        after=None if same_schema else head.trace.schema,
        message="the traces say the same in another order or with other labels.",
    )


def unmatched_scenario(name: str, *, removed: bool) -> Cause:
    """Return the cause that only one side has a scenario."""
    return Cause(
        kind=Kind.SCENARIO_REMOVED if removed else Kind.SCENARIO_ADDED,
        before=name if removed else None,
        after=None if removed else name,
        scenarios=(name,),
        where=name,
        message=f"the scenario {name} is {'gone' if removed else 'new'}.",
        rank=(int(DiffLayer.ASSEMBLY), -1),
    )


def _encoded(config: Mapping[str, Value], key: str) -> bytes:
    present = [config[key]] if key in config else []
    return msgspec.json.encode(present, order="sorted")
