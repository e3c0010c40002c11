"""Runs of scenarios on the release of sglang that is first on the path."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch

from traces.divergence.logs import CallLog, LineLog, LogRequest
from traces.divergence.tracer import log_run
from traces.errors import RecorderError
from traces.recording.message_capture import settle_modules
from traces.recording.probe_binders import remember_binders
from traces.recording.recorder import Recorder
from traces.recording.source_sites import SourceSites
from traces.schema.model import Location, Message, Recording
from traces.schema.races import Race
from traces.targets.common.fork import run_in_fork
from traces.targets.common.labels import BufferLabel, BufferPlace
from traces.targets.common.pool_buffers import buffers_of
from traces.targets.sglang.assembly import AssembledStack, assemble
from traces.targets.sglang.assembly_product import AssemblyProduct, remember_wiring
from traces.targets.sglang.configurator_scenarios import configurator_scenarios
from traces.targets.sglang.disaggregation import state_functions
from traces.targets.sglang.discovery import PACKAGE
from traces.targets.sglang.entry_points import require_entry_point
from traces.targets.sglang.errors import StepNote, UnsupportedByRelease
from traces.targets.sglang.fences import remember_stream_attributes
from traces.targets.sglang.hisparse_scenarios import HisparseScenario
from traces.targets.sglang.hisparse_script import HisparseScript
from traces.targets.sglang.normalise import LocatedMessage, normalise_recording
from traces.targets.sglang.page_accesses import remember_digits
from traces.targets.sglang.pool_configuration import PoolConfiguration
from traces.targets.sglang.pool_makers import remember_pool_maker
from traces.targets.sglang.product_rows import ProductScenario
from traces.targets.sglang.rank_context import RankContexts
from traces.targets.sglang.runtime import open_runtime
from traces.targets.sglang.script import SglangScript
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.server_flags import remember_refused_flags
from traces.targets.sglang.target import SglangTarget

DEFAULT_DEVICE = "sim:latest:0"

# Objects that a fork makes between two collections of garbage.
_COLLECT_AFTER = 50_000

_Found = TypeVar("_Found")


class SglangScenarioRunner:
    """Runs each scenario in a fork of one process that has imported the release.

    For the arguments see :class:`ReleaseSession`.

    Raises:
        ImportError: another ``sglang`` was imported, or it cannot be.
    """

    def __init__(self, root: Path, *, device: str) -> None:
        self._session = ReleaseSession(root, device=device)
        self.target = self._session.target

    def run_scenario(self, scenario: Any) -> Recording:  # noqa: ANN401
        """Run one scenario in a fork of this process.

        Raises:
            UnsupportedByRelease: the release lacks something that the scenario needs.
            RecorderError: something could not be recorded.
            ForkError: the fork died.
        """
        self.require_entry_point(scenario)
        return self.in_fork(lambda run: run(scenario))

    def require_entry_point(self, scenario: Any) -> None:  # noqa: ANN401
        """Raise as a run would where the release has no entry point; no fork is needed for it.

        Raises:
            UnsupportedByRelease: the release lacks the function or class that a stack begins with.
        """
        if not (scenario.configures_pools or isinstance(scenario, ProductScenario)):
            require_entry_point(scenario)

    def in_fork(self, work: Callable[[Callable[[Any], Recording]], _Found]) -> _Found:
        """Return what ``work`` returns in a fork; it is given the function that runs a scenario.

        Raises:
            ForkError: the fork died.
        """
        return run_in_fork(lambda: work(self._session.run_scenario))

    def log_run(
        self,
        scenario: Any,  # noqa: ANN401
        request: LogRequest,
        *,
        last_step: str,
    ) -> CallLog | LineLog:
        """Run one scenario in a fork and return the log that is asked for.

        The run ends behind ``last_step`` unless that is empty; errors are those of
        :meth:`run_scenario`.
        """

        def run() -> Recording:
            return self._session.run_scenario(scenario, last_step=last_step)

        # One fork only: a log kept in a fork of the fork would be lost with it.
        return run_in_fork(lambda: log_run(self.target, request, run=run))


def run_in_process(scenario: Any, root: Path, *, device: str) -> Recording:  # noqa: ANN401
    """Import the release for a device and run one scenario; the process can do no more after it.

    A GPU needs that: its context does not survive a fork, and page-locked memory stays locked. For
    the arguments see :class:`ReleaseSession`.

    Raises:
        ImportError: another ``sglang`` was imported, or it cannot be.
        UnsupportedByRelease: the release lacks something that the scenario needs.
        RecorderError: something could not be recorded.
    """
    return ReleaseSession(root, device=device).run_scenario(scenario)


class ReleaseSession:
    """One import of the release, on one device.

    Args:
        root: directory that holds ``sglang/``; first on the path for it already.
        device: see :func:`open_runtime`.
        on_stack: called with every stack that was assembled, before its first step.

    Attributes:
        target: the release as the recorder sees it.
    """

    def __init__(
        self,
        root: Path,
        *,
        device: str,
        on_stack: Callable[[AssembledStack], None] = lambda _: None,
    ) -> None:
        torch.set_num_threads(1)
        self._runtime = open_runtime(device)
        # Imported and read before any fork.
        state_functions()
        remember_stream_attributes()
        self._ranks = RankContexts()
        self._ranks.open_once(configurator_scenarios()[0], device=self._runtime.pool_device)
        self._on_stack = on_stack
        self.target = SglangTarget(
            self._runtime.release,
            is_pinned=self._runtime.device.is_pinned,
            group_tag=self._ranks.group_tag,
            order_probes=self._runtime.order_probes,
        )
        if self.target.root.resolve() != root.resolve():
            raise ImportError(f"{PACKAGE}: expected the one under {root}, got {self.target.root}")
        settle_modules(PACKAGE)
        remember_wiring()
        remember_pool_maker()
        remember_refused_flags()
        remember_digits()
        remember_binders(self.target)
        # Collecting garbage in a fork must not visit, and so copy, everything imported so far. What
        # of it is garbage stays: to find it takes longer than a scenario.
        gc.freeze()
        # Most of what a scenario makes lives until its end, which frees all of it.
        gc.set_threshold(_COLLECT_AFTER)

    def run_scenario(self, scenario: Any, *, last_step: str = "") -> Recording:  # noqa: ANN401
        """Run one scenario in this process; see :meth:`SglangScenarioRunner.run_scenario`.

        The run ends behind ``last_step``, if that is not empty.
        """
        self.target.records_device_pools = scenario.configures_pools
        recorder = Recorder(self.target)
        recorder.scenario(scenario.name, scenario.config)
        messages: list[LocatedMessage] = []
        if scenario.configures_pools or isinstance(scenario, ProductScenario):
            return self._run_assemblies(scenario, recorder)
        try:
            with recorder:
                with recorder.step("build"):
                    stack = assemble(scenario, ranks=self._ranks, device=self._runtime.pool_device)
                    self._watch_buffers(stack)
                self._on_stack(stack)
                script = self._script(scenario, stack)
                self.target.learn_rows(script.planes)
                for step in script.steps:
                    with recorder.step(step):
                        for result in script.run_step(step):
                            recorder.digest(result)
                    for callee, function in script.take_definitions().items():
                        recorder.define(callee, function)
                    messages += [
                        (Message(step=step, level="warning", text=note), None)
                        for note in script.take_notes()
                    ]
                    messages += self._new_races(step, messages)
                    if step == last_step:
                        break
        except (RecorderError, UnsupportedByRelease):
            raise
        except Exception:
            # An error of the scenario is its outcome, unless nothing was recorded before it.
            if not recorder.is_over:
                raise
        finally:
            self._ranks.close()
        failed = recorder.recording.trace.outcome.failed_step
        return normalise_recording(
            recorder.recording, messages=[*messages, *self._new_races(failed, messages)]
        )

    def _script(self, scenario: Any, stack: AssembledStack) -> SglangScript | HisparseScript:  # noqa: ANN401
        device = self._script_device()
        if isinstance(scenario, HisparseScenario):
            return HisparseScript(stack, device=device)
        return SglangScript(
            stack,
            device=device,
            host_writes=self.target.host_writes,
            reads_pages=scenario.reads_pages,
        )

    def _run_assemblies(self, scenario: Any, recorder: Recorder) -> Recording:  # noqa: ANN401
        """Run a scenario that makes pools or assembles stacks, and moves nothing."""
        messages: list[tuple[Message, Location | None]] = []
        try:
            script = self._assembly_script(scenario)
            with recorder:
                for step in script.steps:
                    with recorder.step(step):
                        for result in script.run_step(step):
                            recorder.digest(result)
                    messages += [
                        (Message(step=step, level="warning", text=note.text), self._raised_at(note))
                        for note in script.take_notes()
                    ]
        except RecorderError as error:
            if recorder.is_over or not messages:
                raise
            raise _nothing_assembled(messages[0][0].text) from error
        except UnsupportedByRelease:
            raise
        except Exception:  # noqa: BLE001 - recorded as the outcome
            pass
        finally:
            self._ranks.close()
            self.target.pool_prefix = ""
        return normalise_recording(recorder.recording, messages=messages)

    def _raised_at(self, note: StepNote) -> Location | None:
        """Return the line of the release that refused a step, if any."""
        sites = SourceSites(root=self.target.root, package=PACKAGE, hidden=frozenset())
        raised = None if note.error is None else sites.failure_site(note.error)
        return None if raised is None else sites.site(raised)

    def _assembly_script(self, scenario: Any) -> PoolConfiguration | AssemblyProduct:  # noqa: ANN401
        def name_pools(step: str) -> None:
            self.target.pool_prefix = f"{step}:"

        if isinstance(scenario, ProductScenario):
            pool_device = self._runtime.pool_device
            return AssemblyProduct(
                scenario, ranks=self._ranks, device=pool_device, name_pools=name_pools
            )
        device = self._script_device()
        return PoolConfiguration(scenario, ranks=self._ranks, device=device, name_pools=name_pools)

    def _script_device(self) -> ScriptDevice:
        pause = self._runtime.pause_interception
        return ScriptDevice(self._runtime.device, pause_interception=pause)

    def _new_races(self, step: str, known: Sequence[LocatedMessage]) -> list[LocatedMessage]:
        """Return the races that the device found since those that are known."""
        before = {one.text for one, _ in known if isinstance(one, Race)}
        sites = SourceSites(root=self.target.root, package=PACKAGE, hidden=frozenset())
        found: list[LocatedMessage] = []
        for race in self._runtime.races():
            if race.record.text not in before:
                site = sites.own_site(race.sites)
                location = None if site is None else sites.site(site)
                found.append((msgspec.structs.replace(race.record, step=step), location))
        return found

    def _watch_buffers(self, stack: AssembledStack) -> None:
        for name, pool in stack.device_pools.items():
            for buffer in buffers_of(pool):
                place = BufferPlace(pool=name, buffer=buffer.attribute, layer=buffer.number)
                label = BufferLabel(f"{name}.{buffer.name}", place=place)
                self._runtime.watch(buffer.tensor, label)


def _nothing_assembled(refusal: str) -> RecorderError:
    """Return the error for a scenario all of whose steps were refused before they did anything."""
    expected = "a step that assembles something"
    return RecorderError("record", "must see something", expected=expected, got=refusal)
