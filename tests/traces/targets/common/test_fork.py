"""Work in a copy of the process: its result comes back, and nothing else."""

import os
import signal

import pytest

from traces.errors import RecorderError
from traces.targets.common.errors import ForkError
from traces.targets.common.fork import run_in_fork
from traces.targets.sglang.errors import UnsupportedByRelease

GLOBAL = []


def test_result_comes_back_and_what_was_changed_does_not():
    def work():
        GLOBAL.append(os.getpid())
        return {"played": len(GLOBAL)}

    assert run_in_fork(work) == {"played": 1}
    assert run_in_fork(work) == {"played": 1}
    assert GLOBAL == []


def raising(error):
    def work():
        raise error

    return work


def test_errors_come_back_as_what_they_are():
    with pytest.raises(UnsupportedByRelease, match=r"^no class QSA$"):
        run_in_fork(raising(UnsupportedByRelease("no class QSA")))
    with pytest.raises(RecorderError, match=r"^record: must nest; expected a, got b$") as caught:
        run_in_fork(raising(RecorderError("record", "must nest", expected="a", got="b")))
    assert (caught.value.subject, caught.value.rule) == ("record", "must nest")


def test_error_that_cannot_travel_is_told_in_words():
    class LocalError(Exception):
        pass

    with pytest.raises(ForkError, match="LocalError: what was said"):
        run_in_fork(raising(LocalError("what was said")))


def test_copy_that_dies_is_an_error_that_says_how():
    with pytest.raises(ForkError, match=r"got signal SIGKILL$"):
        run_in_fork(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(ForkError, match=r"got exit code 3$"):
        run_in_fork(lambda: os._exit(3))
