"""Calls that assemble stacks, with their lines, as the rules read them from recordings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from traces.audit.finding import call_location, definition_location
from traces.schema.model import Call, Location, Recording

Recordings = Mapping[str, Recording]

SCENARIO_CALLER = "the scenario itself"
CALLBACK = {"callable": True}
ASSEMBLY_ROLES = ("builder", "constructor")


def without_refusals(recordings: Recordings) -> Recordings:
    """Return the recordings of scenarios that declare no ``mistake``.

    An assembly that must be refused is no stack: its arguments are wrong on purpose.
    """
    configs = {name: one.trace.scenario.config for name, one in recordings.items()}
    return {name: recordings[name] for name in configs if "mistake" not in configs[name]}


def with_stacks(recordings: Recordings) -> Recordings:
    """Return the recordings of scenarios that do not declare to have no stack.

    Where a target only makes device pools, the classes around them are no siblings: each makes the
    pool inside of it in its own way.
    """
    configs = {name: one.trace.scenario.config for name, one in recordings.items()}
    return {name: recordings[name] for name in configs if configs[name].get("has_stack", True)}


@dataclass(frozen=True, slots=True, kw_only=True)
class AssemblyCall:
    """One call of a builder or a constructor in one scenario.

    Attributes:
        caller: callee of the recorded call it was made from; :data:`SCENARIO_CALLER` at the top.
        defaults: what leaving out the callee's parameters means, as far as that is plain.
    """

    scenario: str
    recording: Recording
    call: Call
    caller: str
    defaults: Mapping[str, Any]

    @property
    def location(self) -> Location | None:
        """The line that makes the call; the callee's definition when the scenario makes it."""
        is_scenario = self.caller == SCENARIO_CALLER
        site = None if is_scenario else call_location(self.recording, self.call)
        return site or definition_location(self.recording, self.call.callee)

    @property
    def subject(self) -> str:
        """The callee, with the pool that it gets as its argument ``name``."""
        first = self.call.arguments[0] if self.call.arguments else None
        if first is not None and first.name == "name" and isinstance(first.value, str):
            return f"{self.call.callee}[{first.value}]"
        return self.call.callee


def assembly_calls(recordings: Recordings) -> Iterator[AssemblyCall]:
    """Yield every call of a builder or constructor, scenario by scenario."""
    for name, recording in recordings.items():
        sites = recording.sites
        for call in recording.trace.calls:
            if call.role in ASSEMBLY_ROLES:
                yield AssemblyCall(
                    scenario=name,
                    recording=recording,
                    call=call,
                    caller=call.caller or SCENARIO_CALLER,
                    defaults={} if sites is None else sites.defaults.get(call.callee, {}),
                )


def encode_value(value: Any) -> bytes:  # noqa: ANN401 - any encoded value
    """Return a value as bytes that are equal for equal values of one type only."""
    return msgspec.json.encode(value, order="sorted")


def has_few_values(value: Any) -> bool:  # noqa: ANN401 - any encoded value
    """Return whether a value is of a kind that has too few values to be unlike all others."""
    return value is None or isinstance(value, bool) or value == CALLBACK


def value_text(value: Any) -> str:  # noqa: ANN401 - any encoded value
    """Return a value as text for a message."""
    text = encode_value(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."
