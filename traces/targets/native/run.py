"""Play one scenario on a target and return what happened."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from traces.errors import RecorderError
from traces.recording.recorder import record
from traces.schema.model import Recording
from traces.targets.native.scenarios import NativeScenario

if TYPE_CHECKING:
    from traces.targets.native.script import NativeScript


def run_scenario(scenario: NativeScenario, *, device: str) -> Recording:
    """Play ``scenario`` on the native target, recorded.

    An exception of the played code is part of the recording (its outcome), not raised here.

    Args:
        scenario: what to play.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, ``sim``, or ``sim:POLICY:SEED`` for a
            schedule.

    Raises:
        RecorderError: something could not be recorded.
        ValueError: this machine has no such device.
    """
    # Imported late: only this path needs torch and the target.
    from traces.targets.native.script import STEPS, NativeScript

    return _record_steps(scenario, NativeScript(scenario, device=device), steps=STEPS)


def run_scenario_on_every_buffer(scenario: NativeScenario, *, device: str) -> Recording:
    """Play ``scenario`` as :func:`play` does, with a round trip of every buffer there is.

    What comes of it is for an audit: its trace has more round trips than the golden.
    """
    from traces.targets.native.audit_script import EveryBufferScript
    from traces.targets.native.script import STEPS

    return _record_steps(scenario, EveryBufferScript(scenario, device=device), steps=STEPS)


def run_unrecorded(scenario: NativeScenario, *, device: str) -> None:
    """Play ``scenario`` without a recorder: what recording is measured against."""
    from traces.targets.native.script import STEPS, NativeScript

    stage = NativeScript(scenario, device=device)
    for step in STEPS:
        for _ in stage.play(step):
            pass


def _record_steps(
    scenario: NativeScenario, stage: "NativeScript", *, steps: Sequence[str]
) -> Recording:
    recorder = record(target="native")
    recorder.scenario(scenario.name, scenario.config)
    try:
        with recorder:
            for step in steps:
                with recorder.step(step):
                    for result in stage.play(step):
                        recorder.digest(result)
    except RecorderError:
        raise
    except Exception:  # noqa: BLE001 - recorded as the outcome
        pass
    return recorder.recording
