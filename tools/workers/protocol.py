"""The worker's side of playing: a process that imports the target and answers requests.

This module alone brings torch and ``assembler`` in (``tools.workers.hardware`` on its
behalf), and only when a :class:`NativeStage` is made, which happens in worker processes alone.
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
from tools.workers.hardware import describe_hardware

if TYPE_CHECKING:
    from traces.targets.native.scenarios import NativeScenario


@dataclass(frozen=True, slots=True, kw_only=True)
class RunScenario:
    """Ask for one scenario to be played.

    The scenario travels whole: computing the covering array again takes most of a second.
    """

    scenario: "NativeScenario"
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayScenario:
    """Ask for one scenario to be played again, with everything logged.

    Attributes:
        call: function and number of the call whose lines are logged; None for all calls.
    """

    scenario: "NativeScenario"
    device: str
    call: tuple[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListBuilders:
    """Ask for the names of the target's stack builders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProvenance:
    """Ask what plays: device and versions."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTask:
    """Ask for something that only stages of a special kind can do."""

    order: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestResult:
    """What came of an errand, or of a replay."""

    result: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One scenario as it was played.

    Attributes:
        text: the canonical trace.
        sites: where its records come from, as JSON.
    """

    text: str
    sites: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsupportedScenario:
    """A scenario that this side has no way to play, and why: no fault of the side."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRequest:
    """A request that ended in an exception; ``reason`` is its type and message on one line."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReady:
    """The stage stands; requests may come."""


WorkerRequest: TypeAlias = RunScenario | ReplayScenario | ListBuilders | ReadProvenance | RunTask
WorkerReply: TypeAlias = (
    RunResult
    | UnsupportedScenario
    | tuple[str, ...]
    | dict[str, str]
    | RequestResult
    | FailedRequest
    | WorkerReady
)


class ScenarioWorker(Protocol):
    """What a worker can do with one side's target."""

    def play(self, request: RunScenario) -> RunResult | UnsupportedScenario:
        """Play one scenario and return its trace, or why the side cannot."""

    def replay(self, request: ReplayScenario) -> object:
        """Play one scenario again and return the log of its calls, or of the lines of one."""

    def builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders of the target."""

    def provenance(self, request: ReadProvenance) -> dict[str, str]:
        """Return device and versions, for the record beside the goldens."""


@runtime_checkable
class TaskRunner(Protocol):
    """A stage that runs errands."""

    def run(self, order: Any) -> object:  # noqa: ANN401
        """Do what the order says and return what came of it."""


class NativeWorker:
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

    def play(self, request: RunScenario) -> RunResult:
        """Play one scenario and return its trace."""
        from traces.schema.canonical import render, render_sites
        from traces.targets.native.run import run_scenario

        recording = run_scenario(request.scenario, device=request.device)
        sites = "" if recording.sites is None else render_sites(recording.sites)
        return RunResult(text=render(recording.trace), sites=sites)

    def replay(self, request: ReplayScenario) -> object:
        """Play one scenario again and return the log of its calls, or of the lines of one."""
        from traces.divergence import log_run
        from traces.targets import get_target
        from traces.targets.native.run import run_scenario

        return log_run(
            get_target("native"),
            request.call,
            play=lambda: run_scenario(request.scenario, device=request.device),
        )

    def builders(self) -> tuple[str, ...]:
        """Return the names of all stack builders of the target."""
        from traces.targets.native.target import builders

        return tuple(sorted(builders()))

    def provenance(self, request: ReadProvenance) -> dict[str, str]:
        """Return device and versions, for the record beside the goldens."""
        return read_provenance(request.device)


def read_provenance(device: str) -> dict[str, str]:
    """Return what plays in this process: device and versions."""
    import torch

    return {
        **describe_hardware(device),
        "goldentrace": _version("goldentrace"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def serve(connection: Connection, *, worker_class: str, root: Path) -> None:
    """Answer requests until the other end closes.

    Args:
        connection: requests come in, replies go out.
        worker_class: ``module:class`` of the stage.
        root: handed to the stage.
    """
    # The parent decides what an interrupt means; what scenarios print must not reach its stdout.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    module, _, name = worker_class.partition(":")
    try:
        standing: ScenarioWorker = getattr(import_module(module), name)(root)
    except Exception as error:  # noqa: BLE001 - whatever the target raises is reported
        connection.send(FailedRequest(reason=_error_line(error)))
        return
    connection.send(WorkerReady())
    while True:
        try:
            request: WorkerRequest = connection.recv()
        except EOFError:
            return
        connection.send(_handle_request(standing, request))


def _handle_request(worker_class: ScenarioWorker, request: WorkerRequest) -> WorkerReply:
    try:
        match request:
            case RunScenario():
                return worker_class.play(request)
            case ReplayScenario():
                return RequestResult(result=worker_class.replay(request))
            case ListBuilders():
                return worker_class.builders()
            case ReadProvenance():
                return worker_class.provenance(request)
            case RunTask() if isinstance(worker_class, TaskRunner):
                return RequestResult(result=worker_class.run(request.order))
            case RunTask():
                return FailedRequest(reason=f"{type(worker_class).__name__} runs no errands")
    except Exception as error:  # noqa: BLE001 - whatever the target raises is reported
        return FailedRequest(reason=_error_line(error))


def _error_line(error: Exception) -> str:
    if isinstance(error, ToolError):
        return str(error)
    return one_line(f"{type(error).__name__}: {error}")


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
