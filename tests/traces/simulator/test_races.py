"""What is ordered, and which two accesses are a race."""

import gc
import sys
import threading

import pytest
import torch

from assembler.device import row_access, tensor_access
from tests.traces.simulator.test_device import copy, new_device, put, settled_zeros
from traces.simulator.races import RaceError, find_launch_site


@pytest.fixture
def device():
    return new_device()


def test_a_launch_site_has_the_lines_that_every_frame_was_at():
    site, frame = find_launch_site(), sys._getframe()
    at = [(frame.f_code.co_filename, frame.f_code.co_firstlineno + 1)]
    frame = frame.f_back
    while frame is not None:
        at.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    assert len(site.frames) == 14
    assert site.frames == tuple(at[:14])
    assert site.line == f"tests/traces/simulator/test_races.py:{at[0][1]}"


def test_missing_wait_between_streams_is_named(device):
    x, y = settled_zeros(device), settled_zeros(device)
    write, load = device.new_stream("write"), device.new_stream("load")
    put(device, x, 1, stream=write, label="fill x")
    copy(device, x, y, stream=load, label="take x")
    device.synchronize()

    (race,) = device.races
    assert (race.first.label, race.first_kind) == ("fill x", "write")
    assert (race.second.label, race.second_kind) == ("take x", "read")
    assert race.first.site.line.startswith("tests/traces/simulator/test_device.py:")
    assert race.buffer == "device memory 0 (4 bytes)"
    assert (race.first_byte, race.stop_byte) == (0, 4)
    assert race.missing_edge == (
        "stream load must wait for an event recorded on stream write after 'fill x' "
        "and before 'take x' is launched"
    )
    assert "touch bytes 0 to 3 of device memory 0 (4 bytes); missing: stream load" in str(race)


def test_missing_synchronisation_of_the_host_is_named(device):
    pinned = device.host_empty((4,), torch.uint8, pin_memory=True)
    put(device, pinned, 1, label="back up")
    device.host_access(label="read backup", reads=(tensor_access(pinned),), writes=())
    device.synchronize()

    (race,) = device.races
    assert race.missing_edge == (
        "the host must synchronise with stream default after 'back up' and before 'read backup'"
    )


def test_races_can_be_raised():
    device = new_device("earliest", raise_races=True)
    tensor = settled_zeros(device)
    put(device, tensor, 1, stream=device.new_stream("a"), label="one")

    with pytest.raises(RaceError, match=r"'one' on stream a .* and write by 'two' on stream b"):
        put(device, tensor, 2, stream=device.new_stream("b"), label="two")
    assert len(device.races) == 1


@pytest.mark.parametrize(
    "edge", ["none", "event", "stream", "device", "event.synchronize", "query"]
)
def test_every_kind_of_edge_orders(device, edge):
    x, y = settled_zeros(device), settled_zeros(device)
    write, load, event = (
        device.new_stream("write"),
        device.new_stream("load"),
        device.new_event("e"),
    )
    put(device, x, 1, stream=write)
    event.record(write)
    match edge:
        case "event":
            load.wait_event(event)
        case "stream":
            write.synchronize()
        case "device":
            device.synchronize()
        case "event.synchronize":
            event.synchronize()
        case "query":
            while not event.query():
                pass
    copy(device, x, y, stream=load)
    device.synchronize()

    assert len(device.races) == (1 if edge == "none" else 0)


def test_query_that_says_no_orders_nothing(device):
    x, y, event = settled_zeros(device), settled_zeros(device), device.new_event("e")
    put(device, x, 1, stream=device.new_stream("write"))
    stream = device.new_stream("other")
    event.record(stream)
    assert not event.query()
    copy(device, x, y, stream=stream)
    device.synchronize()

    assert len(device.races) == 1


def test_readers_are_remembered_until_the_next_write(device):
    x, ys = settled_zeros(device), [settled_zeros(device) for _ in range(2)]
    streams = [device.new_stream(name) for name in "ab"]
    for stream, y in zip(streams, ys, strict=True):
        copy(device, x, y, stream=stream, label=f"read on {stream.name}")
    put(device, x, 1, label="overwrite")
    device.synchronize()

    assert [race.first.label for race in device.races] == ["read on a", "read on b"]
    assert {race.second.label for race in device.races} == {"overwrite"}


def test_rows_apart_are_no_conflict_and_rows_shared_are(device):
    table = device.zeros((4, 8), torch.uint8)
    device.synchronize()
    for name, rows in (("a", [0, 2]), ("b", [1, 3]), ("c", [3])):
        with device.on(device.new_stream(name)):
            numbers = torch.tensor(rows)
            device.launch(
                lambda: None, label=name, reads=(), writes=(row_access(table, lambda n=numbers: n),)
            )
    device.synchronize()

    (race,) = device.races
    assert (race.first.label, race.second.label) == ("b", "c")
    assert (race.first_byte, race.stop_byte) == (24, 32)


def test_memory_used_again_is_new_memory(device):
    stream = device.new_stream("side")
    for _ in range(20):
        tensor = device.empty((1 << 12,), torch.uint8)
        put(device, tensor, 1, stream=stream)
        stream.synchronize()
        del tensor
        gc.collect()
        other = device.empty((1 << 12,), torch.uint8)
        put(device, other, 2)
        device.current_stream().synchronize()
        del other

    assert device.races == []


def test_new_zeros_are_the_current_streams_work(device):
    tensor = device.zeros((4,), torch.uint8)
    put(device, tensor, 1, stream=device.new_stream("side"))
    device.synchronize()

    assert [race.first.label for race in device.races] == ["fill with zeros"]


def test_indices_copied_on_another_stream_must_be_waited_for(device):
    indices, side = device.to_device(torch.tensor([1])), device.new_stream("side")
    with device.on(side):
        device.launch(lambda: None, label="use", reads=(tensor_access(indices),), writes=())
    device.synchronize()

    assert [race.first.label for race in device.races] == ["copy indices"]


def test_threads_without_a_group_are_not_ordered_by_joining(device):
    pinned = device.host_empty((4,), torch.uint8, pin_memory=True)
    device.host_access(label="main writes", reads=(), writes=(tensor_access(pinned),))

    def work():
        device.host_access(label="thread reads", reads=(tensor_access(pinned),), writes=())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    words = [race.missing_edge for race in device.races]
    assert words == ["the host must hand over to host thread 1 after 'main writes'"]


def test_many_threads_may_call_at_once():
    device = new_device("random")
    tensors = [device.empty((4,), torch.uint8) for _ in range(4)]

    def work(number):
        stream = device.new_stream(f"stream{number}")
        for value in range(50):
            put(device, tensors[number], value, stream=stream)
        stream.synchronize()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [int(tensor[0]) for tensor in tensors] == [49] * 4
    assert device.races == []


def test_race_hides_no_other_race(device):
    """Scenario: the late first write of a buffer falls between an early reader and its writer."""
    x, y, side = (
        device.zeros((4,), torch.uint8),
        settled_zeros(new_device()),
        device.new_stream("a"),
    )
    put(device, x, 1, label="forward")
    copy(device, x, y, stream=side, label="backup")
    side.synchronize()
    device.synchronize()

    assert {(race.first.label, race.second.label) for race in device.races} == {
        ("fill with zeros", "backup"),
        ("forward", "backup"),
    }
