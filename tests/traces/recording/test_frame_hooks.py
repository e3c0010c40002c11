"""Hooks of the interpreter: seen in every thread, and what was there before comes back."""

import cProfile
import sys
import threading

import pytest

from traces.recording.frame_hooks import profile_frames, trace_frames, unprofiled


def observed():
    pass


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@pytest.mark.parametrize("hooked", [profile_frames, trace_frames])
def test_calls_of_every_thread_are_seen_within_the_block_only(hooked):
    seen = []

    def hook(frame, event, _argument):
        if event == "call" and frame.f_code is observed.__code__:
            seen.append(threading.current_thread() is threading.main_thread())

    observed()
    with hooked(hook):
        observed()
        in_thread(observed)
    observed()
    in_thread(observed)

    assert seen == [True, False]


@pytest.mark.parametrize(
    ("hooked", "set_here", "here", "set_elsewhere", "elsewhere"),
    [
        (
            profile_frames,
            sys.setprofile,
            sys.getprofile,
            threading.setprofile,
            threading.getprofile,
        ),
        (trace_frames, sys.settrace, sys.gettrace, threading.settrace, threading.gettrace),
    ],
)
def test_hooks_that_were_there_come_back_each_to_its_place(
    hooked, set_here, here, set_elsewhere, elsewhere
):
    """Whoever measures coverage has one for this thread and another one for new threads."""
    before = here(), elsewhere()

    def mine(*_):
        return None

    def theirs(*_):
        return None

    try:
        set_elsewhere(theirs)
        set_here(mine)
        with hooked(lambda *_: None):
            pass
        found = here(), elsewhere()
    finally:
        set_here(before[0])
        set_elsewhere(before[1])

    assert found == (mine, theirs)


def test_what_happens_in_an_unprofiled_block_is_missed():
    seen = []

    def hook(frame, event, _argument):
        if event == "call" and frame.f_code is observed.__code__:
            seen.append(frame.f_back.f_lineno)

    with profile_frames(hook):
        observed()
        with unprofiled():
            observed()
        observed()

    assert len(seen) == 2


def test_another_profiler_sees_an_unprofiled_block():
    profile = cProfile.Profile()
    with profile, unprofiled():
        observed()

    assert observed.__code__ in {entry.code for entry in profile.getstats()}
