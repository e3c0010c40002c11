"""What a deep replay logs of our own package, and what it leaves alone."""

import inspect
import sys
import threading
from pathlib import Path

import pytest

from assembler.stacks.attach import attach_hybrid_nsa_pool_to_hiradix_cache
from traces.divergence.logs import CallsRequest, LinesRequest
from traces.divergence.tracer import log_calls, log_run
from traces.recording.probes import EventProbe
from traces.targets import get_target
from traces.targets.native.run import run_scenario
from traces.targets.native.scenarios import registry


def one_scenario():
    return min(registry().values(), key=lambda scenario: scenario.name)


@pytest.fixture(scope="module")
def plain():
    return run_scenario(one_scenario(), device="cpu")


def every(calls):
    for call in calls:
        yield call
        yield from every(call.children)


def test_recording_is_the_same_while_calls_are_logged(plain):
    with log_calls(get_target("native")) as log:
        logged = run_scenario(one_scenario(), device="cpu")
    assert logged == plain
    names = {call.function for thread in log.threads for call in every(thread)}
    assert {"bytes_per_slot", "take_finished", "HostKVCache._move"} <= names
    assert "CallSite.__init__" not in names


@pytest.mark.usefixtures("plain")
def test_two_replays_log_the_same():
    logs = [
        log_run(
            get_target("native"),
            CallsRequest(focus=None),
            run=lambda: run_scenario(one_scenario(), device="cpu"),
        )
        for _ in range(2)
    ]
    one, other = ([call for thread in log.threads for call in every(thread)] for log in logs)
    assert len(one) > 1000
    assert [(call.function, call.inputs, call.after) for call in one] == [
        (call.function, call.inputs, call.after) for call in other
    ]


def test_values_are_logged_of_the_functions_in_focus_and_of_all_calls_within_them():
    code = inspect.unwrap(attach_hybrid_nsa_pool_to_hiradix_cache).__code__
    last = max(line for _, _, line in code.co_lines() if line)
    file = Path(code.co_filename).relative_to(get_target("native").root).as_posix()
    with log_calls(get_target("native"), focus=((file, ((code.co_firstlineno, last),)),)) as log:
        run_scenario(one_scenario(), device="cpu")
    calls = [call for thread in log.threads for call in every(thread)]
    [built] = [call for call in calls if call.function == "attach_hybrid_nsa_pool_to_hiradix_cache"]

    assert built.is_changed
    assert built.inputs
    assert all(call.has_values for call in every([built]))
    assert {call.by_changed for call in built.children} == {True}
    outside = [call for call in calls if call.function == "take_finished"]
    assert outside
    assert not any(call.has_values or call.inputs or call.after for call in outside)


def test_lines_of_one_call_hold_locals():
    log = log_run(
        get_target("native"),
        LinesRequest(function="bytes_per_slot", number=0),
        run=lambda: run_scenario(one_scenario(), device="cpu"),
    )
    assert [stop.line > 0 for stop in log.stops] == [True] * (len(log.stops) - 1) + [False]
    assert log.stops[0].values.keys() >= {"planes", "slots_per_row", "layer_num"}


def test_nothing_is_left_behind():
    with log_calls(get_target("native")):
        pass
    assert sys.getprofile() is None
    assert threading.getprofile() is None


def decorated(function):
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@decorated
def reduced(*, group):
    return group


@decorated
def gathered(*, group):
    return group


class Watched:
    """A target that watches two functions of another package, which one decorator has wrapped."""

    name, package, root = "watched", "nowhere", Path("/nowhere")

    def probes(self):
        return [
            EventProbe(function=function, family="f", nesting="every", observe=lambda *_: None)
            for function in (reduced, gathered)
        ]

    def register_types(self, encoder):
        pass


def test_functions_that_share_a_wrapper_keep_their_names_and_keywords():
    with log_calls(Watched()) as log:
        reduced(group="a")
        gathered(group="b")

    calls = [call for thread in log.threads for call in thread]
    assert [(call.function, call.inputs) for call in calls] == [
        ("reduced", {"args": "[]", "group": '"a"'}),
        ("gathered", {"args": "[]", "group": '"b"'}),
    ]
