"""Happens-before edges of a trace: what a wait waits for, by position."""

from tests.tools.report.test_page import transfer
from tools.report.order import OrderEdge, order_edges, stream_of
from traces.schema.device_waits import DeviceAwaited
from traces.schema.model import HOST, EventAwaited, EventRecorded


def wait(name, stream=HOST):
    return EventAwaited(step="read", name=name, stream=stream)


def record(name, stream="write"):
    return EventRecorded(step="read", name=name, stream=stream, layer=None)


def test_wait_for_an_event_follows_its_latest_record():
    events = (record("done#1"), record("done#1"), wait("done#1"), wait("done#2"))
    assert list(order_edges(events)) == [OrderEdge(1, 2, "done#1")]


def test_wait_for_a_stream_follows_its_last_work():
    events = (transfer(), record("done#1"), transfer(), wait("stream:write"), wait("stream:load"))
    assert list(order_edges(events)) == [OrderEdge(2, 3, "stream:write")]


def test_wait_of_a_stream_is_work_of_that_stream():
    events = (record("done#1"), wait("done#1", "load"), wait("stream:load"))
    assert list(order_edges(events)) == [OrderEdge(0, 1, "done#1"), OrderEdge(1, 2, "stream:load")]


def test_host_waits_for_the_last_work_of_every_stream_of_the_device():
    events = (transfer(), record("done#1", "load"), DeviceAwaited(step="read", stream="default"))
    assert list(order_edges(events)) == [
        OrderEdge(0, 2, "stream:write"),
        OrderEdge(1, 2, "stream:load"),
    ]
    assert stream_of(events[2]) == HOST
    assert stream_of(events[1]) == "load"
