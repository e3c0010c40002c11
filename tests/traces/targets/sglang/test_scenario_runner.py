"""A scenario in which nothing is assembled says why, instead of giving an empty trace."""

from types import SimpleNamespace

import pytest

from traces.errors import RecorderError
from traces.recording.recorder import Recorder
from traces.targets import get_target
from traces.targets.sglang.errors import StepNote
from traces.targets.sglang.scenario_runner import ReleaseSession


def run(notes):
    """Run a scenario whose only step does nothing and leaves notes."""
    session = object.__new__(ReleaseSession)
    session._ranks = SimpleNamespace(close=lambda: None)
    session.target = SimpleNamespace(pool_prefix="")
    script = SimpleNamespace(
        steps=("row",), run_step=lambda _: iter(()), take_notes=lambda: list(notes)
    )
    session._assembly_script = lambda _: script
    session._raised_at = lambda _: None
    return session._run_assemblies(None, Recorder(get_target("native")))


def test_the_first_refusal_is_told_when_every_row_was_refused():
    notes = [StepNote("refused: row: no room", None), StepNote("refused: row: no flag", None)]
    with pytest.raises(RecorderError, match="assembles something, got refused: row: no room"):
        run(notes)


def test_without_a_refusal_the_recorder_says_what_it_missed():
    with pytest.raises(RecorderError, match=r"expected a call, a tensor or an event"):
        run([])
