"""Play one scenario on a target and return what happened."""

from traces.errors import RecorderError
from traces.model import Recording
from traces.recorder import record
from traces.scenarios import Scenario


def play(scenario: Scenario, *, device: str) -> Recording:
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
    from traces.targets.native_stage import STEPS, NativeStage

    stage = NativeStage(scenario, device=device)
    recorder = record(target="native")
    recorder.scenario(scenario.name, scenario.config)
    try:
        with recorder:
            for step in STEPS:
                with recorder.step(step):
                    for result in stage.play(step):
                        recorder.digest(result)
    except RecorderError:
        raise
    except Exception:  # noqa: BLE001 - recorded as the outcome
        pass
    return recorder.recording


def play_unrecorded(scenario: Scenario, *, device: str) -> None:
    """Play ``scenario`` without a recorder: what recording is measured against."""
    from traces.targets.native_stage import STEPS, NativeStage

    stage = NativeStage(scenario, device=device)
    for step in STEPS:
        for _ in stage.play(step):
            pass
