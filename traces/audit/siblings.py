"""Sibling disagreement: one callee, called from several functions, wired in different ways.

Compared is what is passed, not how it is written: a keyword given its own default is the same as
one left out. Calls for different pools are not siblings. An object that is left out is missed; a
number, a name or a flag only where what is built takes it and is left without it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from traces.audit.assembly_calls import (
    SCENARIO_CALLER,
    AssemblyCall,
    Recordings,
    assembly_calls,
    encode_value,
)
from traces.audit.finding import finding_rank
from traces.audit.lineage import Fields, fields_by_scenario, sources_of
from traces.audit.sibling_calls import Passed, StackCalls, is_own_literal, is_plain
from traces.schema.model import Argument
from traces.schema.verdict import Cause, Kind

_ByCaller = Mapping[str, Passed]


def sibling_disagreements(recordings: Recordings) -> tuple[Cause, ...]:
    """Return one finding for each function that leaves out, or takes from elsewhere, an argument.

    A function that leaves out what its siblings pass is named; where it passes a value that never
    changes, its siblings must take theirs from a field.
    """
    calls = list(assembly_calls(recordings))
    known = fields_by_scenario(calls, only_given=True)
    stacks = {name: StackCalls(recording) for name, recording in recordings.items()}
    passed: dict[tuple[str, str, str], dict[str, list[tuple[AssemblyCall, Argument]]]] = {}
    everywhere: dict[tuple[str, str], list[tuple[AssemblyCall, Argument]]] = {}
    for seen in calls:
        entry = stacks[seen.scenario].entry_of(seen.call)
        for item in seen.call.arguments:
            callers = passed.setdefault((seen.call.callee, entry, item.name), {})
            callers.setdefault(seen.caller, []).append((seen, item))
            everywhere.setdefault((seen.call.callee, item.name), []).append((seen, item))
    of_entries = {callee for callee, entry, _ in passed if entry}
    return tuple(
        cause
        for (callee, entry, name), callers in passed.items()
        # A pool that no entry got, where others did, is of a stack that was not finished.
        if entry or callee not in of_entries
        for cause in (
            *_left_out(callers, everywhere[callee, name], known, stacks),
            *_constant_beside_fields(callers, known),
        )
    )


def _left_out(
    callers: _ByCaller,
    everywhere: Passed,
    known: Mapping[str, Fields],
    stacks: Mapping[str, StackCalls],
) -> Iterator[Cause]:
    passing = {caller: pairs for caller, pairs in callers.items() if any(map(_passes, pairs))}
    passed = [pair for pairs in passing.values() for pair in pairs]
    has_plain = all(is_plain(item.value) for _, item in passed)
    if not passing or (has_plain and is_own_literal(passed, everywhere, known)):
        return
    rows = {name for seen, item in passed for name in stacks[seen.scenario].rows_of(item.value)}
    for caller, own in callers.items():
        if caller == SCENARIO_CALLER or any(item.given for _, item in own):
            continue
        pairs = [
            (seen, item)
            for seen, item in own
            if not stacks[seen.scenario].mirrors_nothing(seen.call)
            and stacks[seen.scenario].has_rows(rows)
            and (not has_plain or stacks[seen.scenario].is_lost(seen.call, item))
        ]
        if not pairs:
            continue
        yield _disagreement(
            pairs,
            before=_sibling_value(passing, pairs),
            message=f"{caller} leaves {_argument(pairs)} out; "
            f"{_list_callers(passing)} {'passes' if len(passing) == 1 else 'pass'} it.",
        )


def _constant_beside_fields(callers: _ByCaller, known: Mapping[str, Fields]) -> Iterator[Cause]:
    sources = {
        caller: sources_of([(seen, item.value) for seen, item in pairs], known=known)
        for caller, pairs in callers.items()
        if caller != SCENARIO_CALLER
    }
    for caller, own in sources.items():
        others = {name: one.fields for name, one in sources.items() if one.fields}
        given = any(item.given for _, item in callers[caller])
        handed_on = all(_is_handed_on(seen, item) for seen, item in callers[caller])
        fields = sorted({name for names in others.values() for name in names})
        unlike = any(
            known[seen.scenario].get(name, encode_value(item.value)) != encode_value(item.value)
            for seen, item in callers[caller]
            for name in fields
        )
        if not own.is_literal or not given or handed_on or not unlike:
            continue
        yield _disagreement(
            callers[caller],
            before=fields,
            message=f"{caller} always passes {own.constant} as {_argument(callers[caller])}; "
            f"{_list_callers({other: callers[other] for other in others})} "
            f"{'takes' if len(others) == 1 else 'take'} it from {', '.join(fields)}.",
        )


def _passes(pair: tuple[AssemblyCall, Argument]) -> bool:
    """Return whether a call passes an argument: gives it, and not its default."""
    seen, item = pair
    is_default = item.name in seen.defaults and (
        encode_value(item.value) == encode_value(seen.defaults[item.name])
    )
    return item.given and not is_default


def _is_handed_on(seen: AssemblyCall, item: Argument) -> bool:
    """Return whether the caller got the same value under the same name: it is not its choice."""
    calls = seen.recording.trace.calls
    parents = (call for call in calls if call.call == seen.call.parent)
    return any(
        other.name == item.name and encode_value(other.value) == encode_value(item.value)
        for call in parents
        for other in call.arguments
    )


def _sibling_value(passing: _ByCaller, own: Passed) -> Any:  # noqa: ANN401 - any encoded value
    """Return a value that a sibling passes and that is not what this one gets instead."""
    unlike = {encode_value(item.value) for _, item in own}
    values = [item.value for pairs in passing.values() for _, item in pairs if item.given]
    return next((value for value in values if encode_value(value) not in unlike), values[0])


def _disagreement(pairs: Passed, *, before: object, message: str) -> Cause:
    seen, item = pairs[0]
    return Cause(
        kind=Kind.SIBLING_DISAGREEMENT,
        rank=finding_rank(Kind.SIBLING_DISAGREEMENT),
        where=f"{seen.caller} -> {seen.subject}.{item.name}",
        message=message,
        builder=seen.caller,
        callee=seen.subject,
        parameter=item.name,
        before=before,
        after=item.value,
        location=next((one.location for one, _ in pairs if one.location), None),
        scenarios=tuple(sorted({one.scenario for one, _ in pairs})),
    )


def _argument(pairs: Passed) -> str:
    seen, item = pairs[0]
    return f"{item.name} of {seen.subject}"


def _list_callers(callers: _ByCaller) -> str:
    *first, last = (_with_line(caller, callers[caller]) for caller in callers)
    return f"{', '.join(first)} and {last}" if first else last


def _with_line(caller: str, pairs: Passed) -> str:
    line = next((seen.location for seen, _ in pairs if seen.location), None)
    if caller == SCENARIO_CALLER or line is None:
        return caller
    return f"{caller} ({line.file}:{line.line})"
