"""Runs of one scenario on the native target, recorded or not."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from traces.errors import RecorderError
from traces.recording.recorder import Recorder
from traces.schema.model import Recording, StepRecord
from traces.targets.common.labels import FoundRace
from traces.targets.common.scenario import Scenario
from traces.targets.native.scenarios import (
    NativeScenario,
    RefusalScenario,
    ScatteredScenario,
    StorageScenario,
    scenario_of_config,
)

if TYPE_CHECKING:
    from traces.targets.native.pools import RankGroups


class ScenarioScript(Protocol):
    """The steps of one scenario."""

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the steps, in order."""

    def run_step(self, step: str) -> Iterator[StepRecord]:
        """Run one of :attr:`steps` and yield its records."""

    def new_races(self) -> Iterator[FoundRace]:
        """Yield the races that the device found since the last call."""


def run_scenario(
    scenario: Scenario,
    *,
    device: str,
    on_script: Callable[[ScenarioScript], None] = lambda _: None,
    last_step: str = "",
) -> Recording:
    """Run ``scenario`` on the native target and return the recording.

    An exception of the code under guard is part of the recording (its outcome), not raised here.

    For the device see :func:`open_device`; ``on_script`` is called before the first step. The run
    ends behind ``last_step``, if that is not empty.

    Raises:
        RecorderError: something could not be recorded.
        ValueError: this machine has no such device.
    """
    script = _open_script(_as_native(scenario), device=device)
    on_script(script)
    return record_steps(scenario, script, last_step=last_step)


def run_scenario_on_every_buffer(scenario: Scenario, *, device: str) -> Recording:
    """Run ``scenario`` as :func:`run_scenario` does, with a round trip of every buffer there is.

    The recording is meant for an audit: it has more round trips than the golden.
    """
    native = _as_native(scenario)
    if not native.has_traffic:
        return record_steps(scenario, _open_script(native, device=device))
    from traces.targets.native.audit_script import EveryBufferScript

    return record_steps(scenario, EveryBufferScript(native, device=device))


def run_unrecorded(scenario: Scenario, *, device: str) -> None:
    """Run ``scenario`` without a recorder, as the baseline that recording is measured against."""
    script = _open_script(_as_native(scenario), device=device)
    for step in script.steps:
        for _ in script.run_step(step):
            pass


def _open_script(scenario: NativeScenario, *, device: str) -> ScenarioScript:
    # Imported late: listing scenarios needs neither torch nor the target.
    if isinstance(scenario, RefusalScenario):
        from traces.targets.native.refusal_script import RefusalScript

        return RefusalScript(scenario, device=device)
    if isinstance(scenario, ScatteredScenario):
        from traces.targets.native.scattered_script import ScatteredScript

        return ScatteredScript(scenario, device=device)
    if isinstance(scenario, StorageScenario):
        return open_storage_script(scenario, device=device, groups=None)
    from traces.targets.native.script import NativeScript

    return NativeScript(scenario, device=device)


def open_storage_script(
    scenario: StorageScenario, *, device: str, groups: "RankGroups | None"
) -> ScenarioScript:
    """Return the script of a storage scenario, over process groups where there are any."""
    from traces.targets.native.cache_storage_script import CacheStorageScript
    from traces.targets.native.storage_script import StorageTierScript

    kind = CacheStorageScript if scenario.tier == "tree" else StorageTierScript
    return kind(scenario, device=device, groups=groups)


def _as_native(scenario: Scenario) -> NativeScenario:
    # Built anew: a mutation worker imports this package again, and its classes are other ones.
    return scenario_of_config(scenario.config, scenario.name)


def record_steps(scenario: Scenario, script: ScenarioScript, *, last_step: str = "") -> Recording:
    """Run the steps of a script under a recorder, up to ``last_step``; return the recording."""
    from traces.targets.native.target import NativeTarget

    recorder = Recorder(NativeTarget())
    recorder.scenario(scenario.name, scenario.config)
    try:
        with recorder:
            for step in script.steps:
                with recorder.step(step):
                    _record_step(recorder, script, step)
                if step == last_step:
                    break
    except RecorderError:
        raise
    except Exception:
        # An error of the scenario is its outcome, unless nothing was recorded before it.
        if not recorder.is_over:
            raise
    return recorder.recording


def _record_step(recorder: Recorder, script: ScenarioScript, step: str) -> None:
    """Run a step and record what it gives; races are known even where it ends early."""
    try:
        for result in script.run_step(step):
            recorder.digest(result)
    finally:
        for race in script.new_races():
            recorder.race(race.record, sites=race.sites)
