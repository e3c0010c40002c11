"""Where values come from: since sentinels are unique, equal in all scenarios means from there."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from traces.audit.assembly_calls import (
    SCENARIO_CALLER,
    AssemblyCall,
    encode_value,
    has_few_values,
    value_text,
    without_object_numbers,
)

COMPUTED = "computed"
Fields = Mapping[str, bytes]
"""Encoded values by name of the field."""

_CONSTANT = "constant "


def sources_of(
    pairs: Iterable[tuple[AssemblyCall, Any]], *, known: Mapping[str, Fields]
) -> tuple[str, ...]:
    """Return every field whose value some argument has in all calls, sorted.

    Args:
        pairs: calls and the argument's value in each.
        known: fields by scenario.

    Returns:
        ``config.page_size``, ``entry.model_name``, ``MLATokenToKVPool.kv_lora_rank``; one
        ``constant X`` where the value never changes and no field has it; otherwise ``computed``.
    """
    values: list[Any] = []
    surviving: set[str] | None = None
    telling: set[str] = set()
    for seen, value in pairs:
        plain = without_object_numbers(value)
        values.append(plain)
        fields = known[seen.scenario]
        names = {name for name, other in fields.items() if other == encode_value(plain)}
        if _is_distinctive(value):
            telling |= names
        surviving = names if surviving is None else surviving & names
    found = sorted((surviving or set()) & telling)
    if found:
        return tuple(found)
    if len({encode_value(value) for value in values}) == 1:
        return (f"{_CONSTANT}{value_text(values[0])}",)
    return (COMPUTED,)


def is_field(source: str) -> bool:
    """Tell whether a source is a field, and neither a value that never changes nor unknown."""
    return source != COMPUTED and not source.startswith(_CONSTANT)


def is_literal(source: str) -> bool:
    """Tell whether a source is a value that never changes and is no object."""
    return source.startswith(_CONSTANT) and not source.removeprefix(_CONSTANT).startswith("{")


def fields_by_scenario(calls: Iterable[AssemblyCall]) -> dict[str, dict[str, bytes]]:
    """Return the fields of every scenario that values can come from, with their values.

    These are the axes of its configuration, the arguments of the entry that it calls, and what
    the device pools were made with.
    """
    known: dict[str, dict[str, bytes]] = {}
    for seen in calls:
        if seen.scenario not in known:
            config = seen.recording.trace.scenario.config
            known[seen.scenario] = {f"config.{name}": encode_value(config[name]) for name in config}
        if seen.caller == SCENARIO_CALLER:
            known[seen.scenario].update(_arguments(seen))
    return known


def _arguments(seen: AssemblyCall) -> Iterator[tuple[str, bytes]]:
    owner = "entry" if seen.call.role == "builder" else seen.call.callee
    for item in seen.call.arguments:
        yield f"{owner}.{item.name}", encode_value(without_object_numbers(item.value))


def _is_distinctive(value: Any) -> bool:  # noqa: ANN401 - any encoded value
    """Tell whether a value is more than a flag or a callback: those are equal by chance."""
    return not has_few_values(value) and value not in (0, 1)
