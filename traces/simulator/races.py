"""Races and their description in words, with the source lines that launched the operations."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Literal

from typing_extensions import override

from assembler.errors import HiCacheError
from traces.simulator.memory import MemoryKind
from traces.simulator.vector_clocks import Timeline

AccessKind = Literal["read", "write"]

_ROOT = Path(__file__).parent.parent.parent
# Frames of the device interface and of the simulator are not where an operation was launched.
_DEVICE_FOLDERS = (f"{_ROOT / 'assembler' / 'device'}{os.sep}", f"{Path(__file__).parent}{os.sep}")
_DEPTH = 14


@dataclass(frozen=True, slots=True)
class LaunchSite:
    """The source lines that led to a call into the device, innermost first.

    Attributes:
        calls: code and place in it of each, without the device's own. Finding the line of a place
            takes time, and hardly any is asked for.
    """

    calls: tuple[tuple[CodeType, int], ...]

    @property
    def frames(self) -> tuple[tuple[str, int], ...]:
        """File and line of each."""
        return tuple((code.co_filename, _line_of(code, place)) for code, place in self.calls)

    @property
    def line(self) -> str:
        """The innermost line, ``assembler/transfer/engine.py:80``."""
        return _frame_text(self.frames[0])

    @property
    def path(self) -> str:
        """All lines, innermost first."""
        return " < ".join(map(_frame_text, self.frames))


def find_launch_site() -> LaunchSite:
    """Return the source lines from which the device was called."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the interpreter's own way
    while frame is not None and frame.f_code.co_filename.startswith(_DEVICE_FOLDERS):
        frame = frame.f_back
    calls: list[tuple[CodeType, int]] = []
    while frame is not None and len(calls) < _DEPTH:
        calls.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return LaunchSite(tuple(calls))


def _line_of(code: CodeType, place: int) -> int:
    """Return the line that the instruction at a place in a code object belongs to."""
    for first, end, line in code.co_lines():
        if first <= place < end and line is not None:
            return line
    return code.co_firstlineno


def _frame_text(frame: tuple[str, int]) -> str:
    file, line = Path(frame[0]), frame[1]
    name = file.relative_to(_ROOT) if file.is_relative_to(_ROOT) else file
    return f"{name.as_posix()}:{line}"


class RaceError(HiCacheError, RuntimeError):
    """Two accesses to the same bytes, one of them a write, that nothing orders."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Accessor:
    """One operation, or one access of the host, as later accesses are compared with it.

    Attributes:
        timeline: the stream or host thread.
        step: number of the timeline's step.
        order: place in the program: by launch, not by execution.
        label: what it does, for people.
        site: where it was launched.
        reads: kinds of the memory that it reads.
        writes: kinds of the memory that it writes.
    """

    timeline: Timeline
    step: int
    order: int
    label: str
    site: LaunchSite
    reads: frozenset[MemoryKind] = frozenset()
    writes: frozenset[MemoryKind] = frozenset()

    @override
    def __str__(self) -> str:
        return f"{self.label!r} on {self.timeline} ({self.site.line})"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedRace:
    """Two accesses to the same bytes, at least one of them a write, that nothing orders.

    Attributes:
        first: launched first by the program; it may have run second.
        first_kind: how it accessed the bytes.
        second: launched second by the program.
        second_kind: how it accessed the bytes.
        memory: number of the memory.
        buffer: the memory: its kind, number and size.
        first_byte: of the first range that both touch, in the memory.
        stop_byte: after that range.
    """

    first: Accessor
    first_kind: AccessKind
    second: Accessor
    second_kind: AccessKind
    memory: int
    buffer: str
    first_byte: int
    stop_byte: int

    @property
    def missing_edge(self) -> str:
        """The edge that would order the two, in words."""
        first, second = self.first, self.second
        match first.timeline.kind, second.timeline.kind:
            case "stream", "stream":
                return (
                    f"{second.timeline} must wait for an event recorded on {first.timeline} after "
                    f"{first.label!r} and before {second.label!r} is launched"
                )
            case "stream", "host":
                return (
                    f"{second.timeline} must synchronise with {first.timeline} "
                    f"after {first.label!r} and before {second.label!r}"
                )
            case _:
                return f"{first.timeline} must hand over to {second.timeline} after {first.label!r}"

    @override
    def __str__(self) -> str:
        return (
            f"{self.first_kind} by {self.first} and {self.second_kind} by {self.second} "
            f"touch bytes {self.first_byte} to {self.stop_byte - 1} of {self.buffer}; "
            f"missing: {self.missing_edge}"
        )
