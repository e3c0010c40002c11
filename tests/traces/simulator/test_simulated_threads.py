"""Host threads that take turns under the schedule."""

import signal
import threading

import pytest
import torch

from assembler.device import tensor_access
from assembler.errors import DeadlockError, HostThreadError
from tests.traces.simulator.enumeration import executions
from tests.traces.simulator.test_device import copy, new_device, put, settled_zeros
from tests.traces.simulator.test_thread_group import fail, in_block
from traces.simulator import ReplayedSchedule, SchedulePolicy, SimDevice
from traces.simulator.schedule import ReplayError


@pytest.fixture
def device():
    return new_device()


def look(device, label):
    """Call the device without touching anything."""
    device.host_access(label=label, reads=(), writes=())


def letters(device):
    """Let two threads and the host say letters, a device call before each."""
    said = []

    def say(text):
        for letter in text:
            look(device, letter)
            said.append(letter)

    with device.threads() as threads:
        threads.start(lambda: say("abc"), name="lower")
        threads.start(lambda: say("ABC"), name="upper")
        say("123")
    return "".join(said)


@pytest.mark.parametrize(
    ("policy", "seed", "said"),
    [
        ("latest", 0, "123abcABC"),
        ("earliest", 0, "a1bA2cB3C"),
        ("starve", 0, "abcABC123"),
        ("starve", 1, "1A2B3Cabc"),
        ("starve", 2, "a1b2c3ABC"),
    ],
)
def test_policy_says_whose_turn_it_is(policy, seed, said):
    assert letters(new_device(policy, seed=seed)) == said


def test_random_schedules_interleave_differently():
    seen = {letters(new_device("random", seed=seed)) for seed in range(10)}

    assert len(seen) >= 9
    for said in seen:
        assert [letter for letter in said if letter.islower()] == ["a", "b", "c"]
        assert [letter for letter in said if letter.isupper()] == ["A", "B", "C"]
        assert [letter for letter in said if letter.isdigit()] == ["1", "2", "3"]


def busy_threads(device):
    """Do a little of everything in three threads and return what it showed."""
    x, y = settled_zeros(device), settled_zeros(device)
    side, seen, event = device.new_stream("side"), [], device.new_event("e")
    with device.threads() as threads:
        jobs, done = threads.queue(name="jobs"), threads.flag(name="done")

        def produce():
            for value in range(1, 6):
                put(device, x, value, stream=side)
                event.record(side)
                seen.append(("asked", event.query()))
                event.synchronize()
                jobs.put(value)
            jobs.close()

        def consume():
            while (value := jobs.get()) is not None:
                copy(device, x, y)
                device.current_stream().synchronize()
                seen.append((value, int(y[0])))
            done.set()

        threads.start(produce, name="producer")
        consumer = threads.start(consume, name="consumer")
        while not done.is_set():
            seen.append("not yet")
        consumer.join()
    device.synchronize()
    return seen, [str(race) for race in device.races]


PROGRAM = """
from tests.traces.simulator.test_simulated_threads import busy_threads, letters, new_device
for policy in ("latest", "earliest", "starve", "random"):
    device = new_device(policy, seed=5)
    print(letters(device), busy_threads(device), device.schedule.log())
"""


def test_same_seed_is_the_same_interleaving_in_every_process(outputs_of):
    outputs = outputs_of(PROGRAM)

    assert len(outputs) == 1
    assert len(outputs.pop().splitlines()) == 4


@pytest.mark.parametrize("policy", list(SchedulePolicy))
def test_log_replays_the_interleaving(policy):
    device = new_device(policy, seed=3)
    shown, log = busy_threads(device), device.schedule.log()
    again = SimDevice(schedule=ReplayedSchedule(log), capacity_bytes=None, raise_races=False)

    assert busy_threads(again) == shown
    assert again.schedule.log() == log
    assert "@1" in log


def test_replay_of_another_turn_raises():
    device = SimDevice(schedule=ReplayedSchedule("@5"), capacity_bytes=None, raise_races=False)

    def work(threads):
        threads.start(lambda: None, name="other")
        look(device, "turn")

    with pytest.raises(
        ReplayError, match=r"expected a decision for one of the host threads \[0, 1\], got @5$"
    ):
        in_block(device, work)


def test_log_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"made of decisions; expected 1, -, @1 or 1\*3, got x$"):
        ReplayedSchedule("x")


def test_without_other_threads_nothing_is_decided(device):
    with device.threads():
        look(device, "alone")

    assert device.schedule.log() == ""


def meeting(*, is_handed_over):
    """Return a program in which a thread reads a cell that the host writes."""

    def program(device):
        cell = device.host_empty((1,), torch.uint8, pin_memory=True).fill_(0)
        seen = []

        def read(wait):
            wait()
            device.host_access(label="read", reads=(tensor_access(cell),), writes=())
            seen.append(int(cell[0]))

        with device.threads() as threads:
            written = threads.flag(name="written")
            wait = written.wait if is_handed_over else (lambda: None)
            threads.start(lambda: read(wait), name="reader")
            device.host_access(label="write", reads=(), writes=(tensor_access(cell),))
            cell.fill_(7)
            written.set()
        return tuple(seen)

    return program


@pytest.mark.parametrize(
    ("is_handed_over", "outcomes", "verdicts"),
    [(True, {(7,)}, {False}), (False, {(0,), (7,)}, {True})],
)
def test_every_interleaving_has_the_same_verdict(is_handed_over, outcomes, verdicts):
    program = meeting(is_handed_over=is_handed_over)
    found = list(executions(program, is_observed=True, limit=200))

    assert len(found) > 3
    assert {outcome for outcome, _ in found} == outcomes
    assert {bool(races) for _, races in found} == verdicts


@pytest.mark.parametrize("policy", list(SchedulePolicy))
def test_polling_threads_let_each_other_go_on(policy):
    device = new_device(policy)
    order = []
    with device.threads() as threads:
        flags = [threads.flag(name=f"f{number}") for number in range(3)]

        def relay(number):
            while not flags[number].is_set():
                pass
            order.append(number)
            flags[number + 1].set()

        threads.start(lambda: relay(1), name="second")
        threads.start(lambda: relay(0), name="first")
        flags[0].set()
        while not flags[2].is_set():
            pass
        order.append(2)

    assert order == [0, 1, 2]


@pytest.mark.parametrize("policy", list(SchedulePolicy))
def test_polling_does_not_starve_the_device(policy):
    device = new_device(policy)
    put(device, settled_zeros(device), 7)
    with device.threads() as threads:
        done = threads.flag(name="done")

        def wait():
            device.current_stream().synchronize()
            done.set()

        threads.start(wait, name="waiter")
        while not done.is_set():
            pass


def test_asking_for_what_cannot_happen_raises(device):
    def work(threads):
        never = threads.flag(name="never")
        while not never.is_set():
            pass

    with pytest.raises(
        DeadlockError,
        match=r"^host threads: polled work must be able to finish; "
        r"expected progress within 1000 polls, got the host polls$",
    ):
        in_block(device, work)


def test_stranger_may_not_call_while_a_block_is_open(device):
    errors = []

    def call():
        try:
            look(device, "stranger")
        except HostThreadError as error:
            errors.append(str(error))

    stranger = threading.Thread(target=call, name="stranger")
    with device.threads() as threads:
        threads.start(lambda: None, name="member")
        stranger.start()
        stranger.join()
    call()

    assert errors == [
        "host thread: must belong to the open block; expected the host, thread member, got stranger"
    ]


def test_second_block_on_a_device_is_refused(device):
    with device.threads() as threads:
        with (
            pytest.raises(HostThreadError, match=r"in one block; expected none open, got a second"),
            device.threads(),
        ):
            pass
        threads.start(lambda: None, name="still works").join()
    with device.threads() as threads:
        threads.start(lambda: None, name="works again")


def test_unwinding_thread_does_no_device_work(device):
    """Scenario: a ``finally`` clause of a thread that is unwound calls the device."""
    happened = []

    def work(threads):
        items = threads.queue(name="items")

        def wait():
            try:
                items.get()
            finally:
                happened.append("cleaned up")
                device.synchronize()
                happened.append("synchronised")

        threads.start(wait, name="waiter")
        threads.start(fail, name="failing").join()

    with pytest.raises(KeyError, match="lost"):
        in_block(device, work)
    assert happened == ["cleaned up"]


@pytest.mark.parametrize("policy", list(SchedulePolicy))
def test_waiting_for_device_work_makes_it_happen_with_everybody_blocked(policy):
    """Scenario: the host waits for a thread, the thread for the load, the load for the backup."""
    device = new_device(policy)
    x, y, event = settled_zeros(device), settled_zeros(device), device.new_event("backup.finish")
    write, load = device.new_stream("write"), device.new_stream("load")

    def wait():
        put(device, x, 7, stream=write)
        event.record(write)
        load.wait_event(event)
        copy(device, x, y, stream=load)
        load.synchronize()

    with device.threads() as threads:
        threads.start(wait, name="waiter").join()

    assert y.tolist() == [7] * 4
    assert device.races == []


def test_indices_are_fetched_as_the_stream_had_them(device):
    """Scenario: another thread overwrites the indices on the same stream, after the fetch."""
    indices, fetched = device.to_device(torch.tensor([1, 2])), []
    with device.threads() as threads:
        threads.start(lambda: fetched.append(device.to_host(indices)), name="fetcher")
        threads.start(lambda: put(device, indices, 9), name="overwriter")
    device.synchronize()

    assert [tensor.tolist() for tensor in fetched] == [[1, 2]]
    assert indices.tolist() == [9, 9]
    assert device.races == []


def test_error_of_an_operation_is_raised_in_the_thread_during_whose_call_it_happens(device):
    def operation():
        raise RuntimeError("rows differ")

    def work():
        device.launch(operation, label="fail", reads=(), writes=())
        device.synchronize()

    with device.threads() as threads:
        thread = threads.start(work, name="worker")
        with pytest.raises(RuntimeError, match=r"^rows differ$"):
            thread.join()


class AlarmError(Exception):
    """What a signal raises."""


@pytest.mark.parametrize("policy", list(SchedulePolicy))
def test_signal_in_the_waiting_host_ends_the_block_and_every_thread(policy):
    """Scenario: the host waits for a thread when a signal's handler raises, as for a time limit."""
    device, alarms = new_device(policy), []

    def handler(*_):
        if not alarms:
            alarms.append("raised")
            raise AlarmError

    def call_on():
        while True:
            look(device, "on and on")
            # A signal that comes just before the host falls asleep does not wake it.
            if not alarms:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    def work(threads):
        threads.start(threads.flag(name="never").wait, name="waiter")
        threads.start(call_on, name="caller").join()

    before, thread_num = signal.signal(signal.SIGUSR1, handler), threading.active_count()
    try:
        with pytest.raises(AlarmError):
            in_block(device, work)
    finally:
        signal.signal(signal.SIGUSR1, before)

    look(device, "the block is closed")
    assert threading.active_count() == thread_num
