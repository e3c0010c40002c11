"""What the code as it is does, in one file that every worker reads."""

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from tools.mutation.campaign.tasks import BaselineResult, MutationBaseline
from traces.schema.model import Recording
from traces.targets.common.scenario import Scenario


def write_baseline(
    file: Path,
    *,
    scenarios: Mapping[str, Scenario],
    baseline_results: Mapping[tuple[str, str], BaselineResult],
    stateless: Collection[tuple[str, str]] = (),
) -> None:
    """Write scenarios, recordings and fingerprints of the code as it is, by device and name.

    Those of ``stateless`` have no fingerprint: theirs is not the same every time.
    """
    recordings = {key: play.recording for key, play in baseline_results.items()}
    states = {key: play.state for key, play in baseline_results.items() if key not in stateless}
    file.write_bytes(pickle.dumps((dict(scenarios), recordings, states)))


def read_baseline(file: Path) -> MutationBaseline:
    """Read what :func:`write_baseline` wrote."""
    scenarios, recordings, states = pickle.loads(file.read_bytes())
    return MutationBaseline(
        scenarios=scenarios,
        recordings={
            key: msgspec.msgpack.decode(recording, type=Recording)
            for key, recording in recordings.items()
        },
        states=states,
    )
