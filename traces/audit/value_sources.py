"""Sources of argument values: sentinels are unique, so equal in all scenarios means from there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from traces.audit.assembly_calls import (
    SCENARIO_CALLER,
    AssemblyCall,
    encode_value,
    has_few_values,
    value_text,
    without_object_numbers,
)

Fields = Mapping[str, bytes]
"""Encoded values by name of the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSources:
    """The sources of the value of one argument.

    Attributes:
        fields: every field that has the value in all calls, sorted: ``config.page_size``,
            ``entry.model_name``, ``MLATokenToKVPool.kv_lora_rank``.
        constant: text of a value that never changes and that no field has; empty for none.
        is_literal: whether that value is no object.
    """

    fields: tuple[str, ...] = ()
    constant: str = ""
    is_literal: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The fields; without any ``constant X`` or ``computed``."""
        return self.fields or (f"constant {self.constant}" if self.constant else "computed",)


def sources_of(
    pairs: Iterable[tuple[AssemblyCall, Any]], *, known: Mapping[str, Fields]
) -> ValueSources:
    """Return the sources of an argument's value.

    Args:
        pairs: calls and the argument's value in each.
        known: fields by scenario.
    """
    values: list[Any] = []
    surviving: set[str] | None = None
    distinctive: set[str] = set()
    for seen, value in pairs:
        plain = without_object_numbers(value)
        values.append(plain)
        names = {name for name, own in known[seen.scenario].items() if own == encode_value(plain)}
        # Flags, callbacks and the smallest numbers are equal by chance.
        if not has_few_values(value) and value not in (0, 1):
            distinctive |= names
        surviving = names if surviving is None else surviving & names
    if fields := tuple(sorted((surviving or set()) & distinctive)):
        return ValueSources(fields=fields)
    if len({encode_value(value) for value in values}) == 1:
        text = value_text(values[0])
        return ValueSources(constant=text, is_literal=not isinstance(values[0], dict))
    return ValueSources()


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
            owner = "entry" if seen.call.role == "builder" else seen.call.callee
            for item in seen.call.arguments:
                value = encode_value(without_object_numbers(item.value))
                known[seen.scenario][f"{owner}.{item.name}"] = value
    return known
