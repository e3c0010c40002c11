"""What the rules ask recordings for: the calls that assemble, and the lines they stand on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from traces.audit.finding import definition, locate
from traces.model import Call, Recording
from traces.verdict import Location

Recordings = Mapping[str, Recording]

SCRIPT = "the scenario itself"
CALLBACK = {"callable": True}
ASSEMBLING = ("builder", "constructor")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssemblyCall:
    """One call of a builder or a constructor in one scenario.

    Attributes:
        scenario: its name.
        recording: where it was recorded.
        call: the call.
        caller: callee of the recorded call it was made from; :data:`SCRIPT` at the top.
        defaults: what leaving out the callee's parameters means, as far as that is plain.
    """

    scenario: str
    recording: Recording
    call: Call
    caller: str
    defaults: Mapping[str, Any]

    @property
    def place(self) -> Location | None:
        """The line that makes the call; the callee's definition when the player makes it."""
        sites = self.recording.sites
        site = None if sites is None else sites.calls.get(self.call.call)
        if self.caller == SCRIPT:
            return definition(self.recording, self.call.callee)
        return locate(site) or definition(self.recording, self.call.callee)

    @property
    def subject(self) -> str:
        """The callee, with the pool where the callee is told for which pool it works."""
        first = self.call.arguments[0] if self.call.arguments else None
        if first is not None and first.name == "name" and isinstance(first.value, str):
            return f"{self.call.callee}[{first.value}]"
        return self.call.callee


def assembly_calls(recordings: Recordings) -> Iterator[AssemblyCall]:
    """Yield every call of a builder or constructor, scenario by scenario."""
    for name, recording in recordings.items():
        callees = {call.call: call.callee for call in recording.trace.calls}
        sites = recording.sites
        for call in recording.trace.calls:
            if call.role in ASSEMBLING:
                yield AssemblyCall(
                    scenario=name,
                    recording=recording,
                    call=call,
                    caller=callees.get(call.parent, SCRIPT),
                    defaults={} if sites is None else sites.defaults.get(call.callee, {}),
                )


def encoded(value: Any) -> bytes:  # noqa: ANN401 - any encoded value
    """Return a value as bytes that are equal for equal values of one type only."""
    return msgspec.json.encode(value, order="sorted")


def anonymous(value: Any) -> Any:  # noqa: ANN401 - any encoded value
    """Return a value with the numbers of referenced objects left out."""
    if isinstance(value, dict):
        if isinstance(value.get("ref"), str):
            return {"ref": value["ref"].partition("#")[0]}
        return {key: anonymous(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [anonymous(item) for item in value]
    return value


def is_closed(value: Any) -> bool:  # noqa: ANN401 - any encoded value
    """Tell whether a value is of a kind that has too few values to be unlike all others."""
    return value is None or isinstance(value, bool) or value == CALLBACK


def shown(value: Any) -> str:  # noqa: ANN401 - any encoded value
    """Return a value as text for a message."""
    text = encoded(value).decode()
    return text if len(text) <= 60 else f"{text[:57]}..."
