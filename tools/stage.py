"""The worker's side of playing: a process that imports the target and answers requests.

This module alone brings torch and ``assembler`` in (``tools.hardware`` on its behalf), and only
when a :class:`NativeStage` is made, which happens in worker processes alone.
"""

import os
import platform
import signal
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from tools.errors import ToolError, one_line
from tools.hardware import hardware_of

if TYPE_CHECKING:
    from traces.scenarios import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """Ask for one scenario to be played.

    The scenario travels whole: computing the covering array again takes most of a second.
    """

    scenario: "Scenario"
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Ask for one scenario to be played again, with everything logged.

    Attributes:
        call: function and number of the call whose lines are logged; None for all calls.
    """

    scenario: "Scenario"
    device: str
    call: tuple[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Builders:
    """Ask for the names of the target's stack builders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Ask what plays: device and versions."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """Ask for something that only stages of a special kind can do."""

    order: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of an errand, or of a replay."""

    result: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """One scenario as it was played.

    Attributes:
        text: the canonical trace.
        sites: where its records come from, as JSON.
    """

    text: str
    sites: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplayable:
    """A scenario that this side has no way to play, and why: no fault of the side."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request that ended in an exception; ``reason`` is its type and message on one line."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The stage stands; requests may come."""


Request: TypeAlias = Play | Replay | Builders | Provenance | Errand
Reply: TypeAlias = (
    Performance | Unplayable | tuple[str, ...] | dict[str, str] | Done | Refused | Ready
)


class Stage(Protocol):
    """What a worker can do with one side's target."""

    def play(self, request: Play) -> Performance | Unplayable:
        """Play one scenario and return its trace, or why the side cannot."""

    def replay(self, request: Replay) -> object:
        """Play one scenario again and return the log of its calls, or of the lines of one."""

    def builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders of the target."""

    def provenance(self, request: Provenance) -> dict[str, str]:
        """Return device and versions, for the record beside the goldens."""


@runtime_checkable
class Runner(Protocol):
    """A stage that runs errands."""

    def run(self, order: Any) -> object:  # noqa: ANN401
        """Do what the order says and return what came of it."""


class NativeStage:
    """Plays this repository's scenarios on the ``assembler`` that lies under one root.

    Args:
        root: directory that holds ``assembler/``; recorder and scenarios are always the head's.

    Raises:
        ToolError: another ``assembler`` was imported.
    """

    def __init__(self, root: Path) -> None:
        sys.path.insert(0, str(root))
        torch = import_module("torch")
        torch.set_num_threads(1)
        found = import_module("assembler").__file__
        if found is None or Path(found).resolve().parent.parent != root.resolve():
            raise ToolError("assembler", "must come from the side played", expected=root, got=found)

    def play(self, request: Play) -> Performance:
        """Play one scenario and return its trace."""
        from traces.canonical import render, render_sites
        from traces.play import play

        recording = play(request.scenario, device=request.device)
        sites = "" if recording.sites is None else render_sites(recording.sites)
        return Performance(text=render(recording.trace), sites=sites)

    def replay(self, request: Replay) -> object:
        """Play one scenario again and return the log of its calls, or of the lines of one."""
        from traces.divergence import replayed
        from traces.play import play
        from traces.targets import get_target

        return replayed(
            get_target("native"),
            request.call,
            play=lambda: play(request.scenario, device=request.device),
        )

    def builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders of the target."""
        from traces.targets.native import builders

        return tuple(sorted(builders()))

    def provenance(self, request: Provenance) -> dict[str, str]:
        """Return device and versions, for the record beside the goldens."""
        return provenance_of(request.device)


def provenance_of(device: str) -> dict[str, str]:
    """Return what plays in this process: device and versions."""
    import torch

    return {
        **hardware_of(device),
        "goldentrace": _version("goldentrace"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def serve(connection: Connection, *, stage: str, root: Path) -> None:
    """Answer requests until the other end closes.

    Args:
        connection: requests come in, replies go out.
        stage: ``module:class`` of the stage.
        root: handed to the stage.
    """
    # The parent decides what an interrupt means; what scenarios print must not reach its stdout.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    module, _, name = stage.partition(":")
    try:
        standing: Stage = getattr(import_module(module), name)(root)
    except Exception as error:  # noqa: BLE001 - whatever the target raises is reported
        connection.send(Refused(reason=_reason(error)))
        return
    connection.send(Ready())
    while True:
        try:
            request: Request = connection.recv()
        except EOFError:
            return
        connection.send(_answer(standing, request))


def _answer(stage: Stage, request: Request) -> Reply:
    try:
        match request:
            case Play():
                return stage.play(request)
            case Replay():
                return Done(result=stage.replay(request))
            case Builders():
                return stage.builders()
            case Provenance():
                return stage.provenance(request)
            case Errand() if isinstance(stage, Runner):
                return Done(result=stage.run(request.order))
            case Errand():
                return Refused(reason=f"{type(stage).__name__} runs no errands")
    except Exception as error:  # noqa: BLE001 - whatever the target raises is reported
        return Refused(reason=_reason(error))


def _reason(error: Exception) -> str:
    if isinstance(error, ToolError):
        return str(error)
    return one_line(f"{type(error).__name__}: {error}")


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
