import pytest

from assembler.controller.layer_done import LayerDoneCounter
from assembler.errors import TransferError


@pytest.fixture
def counter(delayed):
    return LayerDoneCounter(device=delayed, layer_num=2)


def finish(counter, index, stream):
    for layer in range(2):
        counter.events(index).complete(layer=layer, stream=stream)


def test_producer_runs_round_a_ring_of_three(counter):
    assert [counter.update_producer() for _ in range(5)] == [0, 1, 2, 0, 1]


def test_ring_place_in_flight_is_not_reused(delayed, counter):
    stream = delayed.new_stream("load")
    for _ in range(3):
        finish(counter, counter.update_producer(), stream)

    with pytest.raises(TransferError, match="expected at most 3 loads in flight, got 4"):
        counter.update_producer()
    assert counter.producer_index == 2

    stream.synchronize()
    assert counter.update_producer() == 0


def test_each_load_has_events_of_its_own(counter):
    counter.update_producer()
    first = counter.events(0)
    for _ in range(3):
        counter.update_producer()

    assert counter.events(0) is not first
    assert [event.name for event in first.layer_events] == ["load.layer0", "load.layer1"]
    assert first.start_event.name == "load.start"
    assert first.finish_event is first.layer_events[1]


def test_reader_waits_for_its_layer_only(delayed, counter):
    stream, done = delayed.new_stream("load"), []
    index = counter.update_producer()
    for layer in range(2):
        with delayed.on(stream):
            delayed.launch(
                lambda layer=layer: done.append(layer), label="load", reads=(), writes=()
            )
        counter.events(index).complete(layer=layer, stream=stream)
    counter.set_consumer(index)

    counter.wait_until(0)
    delayed.current_stream().synchronize()
    assert done == [0]

    counter.wait_until(1)
    delayed.current_stream().synchronize()
    assert done == [0, 1]


def test_without_a_consumer_nobody_waits(delayed, counter):
    finish(counter, counter.update_producer(), delayed.new_stream("load"))

    counter.wait_until(1)

    assert not delayed.current_stream().queue


def test_reset_forgets_producer_and_consumer(counter):
    counter.set_consumer(counter.update_producer())

    counter.reset()

    assert (counter.producer_index, counter.consumer_index) == (-1, -1)


@pytest.mark.parametrize("layer", [-1, 2])
def test_waiting_for_a_layer_that_is_not_there_raises(counter, layer):
    counter.set_consumer(counter.update_producer())
    with pytest.raises(TransferError, match=f"expected 0 <= layer < 2, got {layer}"):
        counter.wait_until(layer)
