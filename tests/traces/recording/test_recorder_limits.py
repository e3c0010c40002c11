"""Threads under a recorder; what it leaves alone, what it refuses, and what it costs."""

import dataclasses
import threading

import pytest
import torch
from tinystack import pools, stack

from tests.traces.recording.test_recorder import build
from traces import record
from traces.errors import InstrumentError, RecorderError
from traces.recording import instrument
from traces.schema.model import Transfer


def test_threads_are_seen_each_with_parents_of_its_own(tiny):
    with record(target=tiny) as recorder:

        def work():
            _, controller = build()
            controller.write(torch.arange(2))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    by_label = {call.call: call for call in recorder.calls}
    builds = [call for call in recorder.calls if call.callee == "build_stack"]
    assert [call.parent for call in builds] == [""] * 4
    for call in recorder.calls:
        if call.callee in ("Group", "Controller", "PoolEntry"):
            assert by_label[call.parent].callee == "build_stack"
    assert len([one for one in recorder.events if isinstance(one, Transfer)]) == 8


def test_call_started_by_a_call_in_another_thread_has_no_parent(tiny):
    class Threaded(stack.Group):
        def __init__(self):
            thread = threading.Thread(target=pools.DevicePool, args=(1,), kwargs={"width": 1})
            thread.start()
            thread.join()
            super().__init__([])

    with record(target=tiny) as recorder:
        Threaded()

    assert [(call.callee, call.parent) for call in recorder.calls] == [
        ("DevicePool", ""),
        ("Group", ""),
    ]


def test_results_and_identities_are_unchanged(tiny):
    pool = pools.DevicePool(8, width=4)
    with record(target=tiny):
        host_pool = stack.build_host(device_pool=pool)
        indices = host_pool.alloc(3)

    assert host_pool.device_pool is pool
    assert indices.tolist() == [0, 1, 2]
    assert type(host_pool) is pools.HostPool


def test_nothing_is_recorded_after_the_block(tiny):
    with record(target=tiny) as recorder:
        build()
    before = recorder.trace
    build()

    assert recorder.trace is before
    assert instrument.still_instrumented() == ()


def test_unknown_argument_type_is_an_error_at_the_end_that_names_it(tiny):
    with pytest.raises(RecorderError) as caught, record(target=tiny) as recorder:
        build(strange=object())

    assert str(caught.value) == (
        "record: must see everything; expected no problem, got build_stack.extra.strange: type "
        "must be known; expected a registered type, got builtins.object"
    )
    with pytest.raises(RecorderError, match="must be over"):
        assert recorder.trace
    assert instrument.still_instrumented() == ()


def test_several_problems_are_counted(tiny):
    wanted = pytest.raises(RecorderError, match=r"got builtins\.object \(and 1 more\)")
    with wanted, record(target=tiny):
        build(strange=object(), stranger=object())


def test_problem_is_chained_to_the_exception_of_the_block(tiny):
    with pytest.raises(RecorderError) as caught, record(target=tiny):  # noqa: PT012
        build(strange=object())
        raise KeyError("block")

    assert isinstance(caught.value.__cause__, KeyError)


def test_interrupt_goes_on_with_a_note_about_the_problem(tiny):
    with pytest.raises(KeyboardInterrupt) as caught, record(target=tiny):  # noqa: PT012
        build(strange=object())
        raise KeyboardInterrupt

    assert "record: must see everything" in caught.value.__notes__[0]


def test_exception_inside_a_probe_description_is_an_error_at_the_end(tiny):
    class Broken(type(tiny)):
        def view(self, pool):
            raise LookupError("no view today")

    wanted = pytest.raises(RecorderError, match="got LookupError: no view today")
    with wanted, record(target=Broken()):
        build()


def test_call_still_running_when_the_block_ends_is_an_error(tiny):
    entered, go_on = threading.Event(), threading.Event()
    thread = threading.Thread(target=stack.build_slowly, args=(entered, go_on))
    wanted = pytest.raises(RecorderError, match="expected none running, got build_slowly#1")
    with wanted, record(target=tiny):
        thread.start()
        entered.wait(5)
    go_on.set()
    thread.join()


def test_nested_and_second_recorders_are_refused(tiny):
    with record(target=tiny) as outer:
        with pytest.raises(RecorderError, match="record: must not nest"), record(target=tiny):
            pass
        build()

    assert len(outer.calls) == 7
    with pytest.raises(RecorderError, match="record: serves one block"), outer:
        pass
    with record(target=tiny):
        build()


def test_failure_to_start_leaves_nothing_behind(tiny):
    class Broken(type(tiny)):
        def probes(self):
            first, *others = super().probes()
            return [*others, dataclasses.replace(first, function=generator)]

    def generator():
        yield

    with pytest.raises(InstrumentError, match="body must run in one go"), record(target=Broken()):
        pass

    assert instrument.still_instrumented() == ()
    with record(target=tiny):
        build()


def test_recording_before_the_end_is_an_error(tiny):
    wanted = pytest.raises(RecorderError, match="record: must be over")
    with record(target=tiny) as recorder:
        build()
        with wanted:
            assert recorder.recording


def test_recording_that_saw_nothing_is_an_error(tiny):
    wanted = "record: must see something; expected a call, a tensor or an event, got none"
    with pytest.raises(RecorderError, match=wanted), record(target=tiny):
        pass


def test_error_of_a_block_that_saw_nothing_is_not_replaced_and_leaves_no_recording(tiny):
    with pytest.raises(LookupError, match="in the block") as caught, record(target=tiny) as record_:
        raise LookupError("in the block")

    assert caught.value.__notes__[0].startswith("record: must see something")
    with pytest.raises(RecorderError, match="record: must be over"):
        assert record_.recording


def test_unknown_target_is_an_error():
    with pytest.raises(ValueError, match="target: must be known; expected native, got martian"):
        record(target="martian")


def test_objects_are_not_kept_alive(tiny):
    import gc
    import weakref

    with record(target=tiny):
        pool = pools.DevicePool(8, width=4)
        gone = weakref.ref(pool)
        del pool
        gc.collect()

        assert gone() is None


def test_thousands_of_events_are_all_recorded(tiny):
    device_pool = pools.DevicePool(64, width=4)
    host_pool = pools.HostPool(device_pool=device_pool)
    indices = torch.arange(8)
    with record(target=tiny) as recorder:
        for _ in range(2000):
            pools.move(
                direction="backup",
                host_pool=host_pool,
                layer=0,
                host_indices=indices,
                device_indices=indices,
            )

    assert len(recorder.events) == 2000
