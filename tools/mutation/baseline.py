"""What the code as it is does, in one file that every worker reads."""

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from tools.mutation.orders import Baseline, Rehearsal
from traces.model import Recording
from traces.scenarios import Scenario


def write_baseline(
    file: Path,
    *,
    scenarios: Mapping[str, Scenario],
    plays: Mapping[tuple[str, str], Rehearsal],
    stateless: Collection[tuple[str, str]] = (),
) -> None:
    """Write scenarios, recordings and fingerprints of the code as it is, by device and name.

    Those of ``stateless`` have no fingerprint: theirs is not the same every time.
    """
    recordings = {key: play.recording for key, play in plays.items()}
    states = {key: play.state for key, play in plays.items() if key not in stateless}
    file.write_bytes(pickle.dumps((dict(scenarios), recordings, states)))


def read_baseline(file: Path) -> Baseline:
    """Read what :func:`write_baseline` wrote."""
    scenarios, recordings, states = pickle.loads(file.read_bytes())
    return Baseline(
        scenarios=scenarios,
        recordings={
            key: msgspec.msgpack.decode(recording, type=Recording)
            for key, recording in recordings.items()
        },
        states=states,
    )
