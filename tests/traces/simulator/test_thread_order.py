"""What orders the accesses of host threads, and what does not."""

import pytest
import torch

from assembler.device import tensor_access
from tests.traces.simulator.test_device import new_device, put, settled_zeros
from tests.traces.simulator.test_simulated_threads import look


@pytest.fixture
def device():
    return new_device()


EDGES = {
    "none": lambda threads, write: threads.start(write, name="writer"),
    "join": lambda threads, write: threads.start(write, name="writer").join(),
}


@pytest.mark.parametrize(("edge", "race_num"), [("none", 1), ("join", 0)])
def test_joining_orders_and_nothing_else_does(device, edge, race_num):
    cell = device.host_empty((4,), torch.uint8, pin_memory=True)

    def write():
        device.host_access(label="write", reads=(), writes=(tensor_access(cell),))

    with device.threads() as threads:
        EDGES[edge](threads, write)
        device.host_access(label="read", reads=(tensor_access(cell),), writes=())

    assert len(device.races) == race_num


def test_starting_orders_what_was_before_and_not_what_is_after(device):
    before, after = (device.host_empty((4,), torch.uint8, pin_memory=True) for _ in range(2))

    def read():
        device.host_access(
            label="read", reads=(tensor_access(before), tensor_access(after)), writes=()
        )

    device.host_access(label="write before", reads=(), writes=(tensor_access(before),))
    with device.threads() as threads:
        threads.start(read, name="reader")
        device.host_access(label="write after", reads=(), writes=(tensor_access(after),))

    (race,) = device.races
    assert race.missing_edge == "the host must hand over to thread reader after 'write after'"


def poll(items):
    while items.poll() is None:
        pass


def ask(flag):
    while not flag.is_set():
        pass


WAYS = {
    "get": lambda items, flag: items.get(),
    "poll": lambda items, flag: poll(items),
    "wait": lambda items, flag: flag.wait(),
    "is_set": lambda items, flag: ask(flag),
    "close": lambda items, flag: (items.get(), items.get()),
}


@pytest.mark.parametrize("way", WAYS)
def test_handing_over_orders_what_was_before_and_not_what_is_after(device, way):
    before, after = (device.host_empty((4,), torch.uint8, pin_memory=True) for _ in range(2))

    with device.threads() as threads:
        items, flag = threads.queue(name="items"), threads.flag(name="flag")

        def read():
            WAYS[way](items, flag)
            for label, cell in (("read before", before), ("read after", after)):
                device.host_access(label=label, reads=(tensor_access(cell),), writes=())

        threads.start(read, name="reader")
        device.host_access(label="write before", reads=(), writes=(tensor_access(before),))
        items.put(1)
        items.close()
        flag.set()
        device.host_access(label="write after", reads=(), writes=(tensor_access(after),))

    assert [(race.first.label, race.second.label) for race in device.races] == [
        ("write after", "read after")
    ]


@pytest.mark.parametrize(("is_one_stream", "race_num"), [(True, 0), (False, 1)])
def test_launches_of_two_threads_are_ordered_by_their_stream_only(device, is_one_stream, race_num):
    x, side = settled_zeros(device), device.new_stream("side")
    other = device.current_stream() if is_one_stream else side

    with device.threads() as threads:
        threads.start(lambda: put(device, x, 1, label="one"), name="one")
        threads.start(lambda: put(device, x, 2, stream=other, label="two"), name="two")
    device.synchronize()

    assert len(device.races) == race_num


@pytest.mark.parametrize(("is_waited_for", "race_num"), [(True, 0), (False, 1)])
def test_thread_is_ordered_after_the_device_only_where_it_waits(device, is_waited_for, race_num):
    """Scenario: one thread waits for the stream, another one reads what it wrote."""
    cell = device.host_empty((4,), torch.uint8, pin_memory=True)
    put(device, cell, 7)

    with device.threads() as threads:
        done = threads.flag(name="done")

        def synchronise():
            device.current_stream().synchronize()
            done.set()

        def read():
            if is_waited_for:
                done.wait()
            device.host_access(label="read", reads=(tensor_access(cell),), writes=())

        threads.start(synchronise, name="waiter")
        threads.start(read, name="reader")
    device.synchronize()

    assert len(device.races) == race_num


def test_waiting_for_a_stream_ends_with_the_work_before_it(device):
    """Scenario: while a thread waits for a stream, another one launches there without end."""
    cell, late = (device.host_empty((4,), torch.uint8, pin_memory=True) for _ in range(2))
    stream = device.current_stream()
    put(device, cell, 7)

    with device.threads() as threads:

        def wait():
            stream.synchronize()
            device.host_access(label="read cell", reads=(tensor_access(cell),), writes=())
            device.host_access(label="read late", reads=(tensor_access(late),), writes=())

        threads.start(wait, name="waiter")
        threads.start(lambda: put(device, late, 1, label="late"), name="launcher")
    device.synchronize()

    assert [(race.first.label, race.second.label) for race in device.races] == [
        ("late", "read late")
    ]


def test_threads_keep_their_own_streams(device):
    names = []
    with device.on(device.new_stream("load")), device.threads() as threads:

        def switch():
            names.append(device.current_stream().name)
            with device.on(device.new_stream("mine")):
                look(device, "turn")
                names.append(device.current_stream().name)

        threads.start(switch, name="a")
        threads.start(switch, name="b")
        look(device, "turn")
        names.append(device.current_stream().name)

    assert sorted(names) == ["default", "default", "load", "mine", "mine"]


@pytest.mark.parametrize(("is_inside", "race_num"), [(False, 0), (True, 1)])
def test_end_of_a_block_that_fails_orders_what_cancelled_threads_did(device, is_inside, race_num):
    cell = device.host_empty((4,), torch.uint8, pin_memory=True)

    def write():
        device.host_access(label="write", reads=(), writes=(tensor_access(cell),))

    def read():
        device.host_access(label="read", reads=(tensor_access(cell),), writes=())

    def run():
        with device.threads() as threads:
            items, never_set = threads.queue(name="items"), threads.flag(name="never set")
            threads.start(lambda: (write(), items.get()), name="waiting")
            for _ in range(4):
                # Lets the thread write, without an order.
                assert not never_set.is_set()
            if is_inside:
                read()
            raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        run()
    read()

    assert len(device.races) == race_num
