"""The order of threads, whatever the scheduler does."""

import threading

from traces.recording.thread_order import ThreadOrder, by_thread


def started(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def test_threads_that_threads_start_come_behind_their_starter():
    order, seen, second_runs = ThreadOrder(), {}, threading.Event()

    def helper():
        seen["helper"] = order.current()

    def first():
        seen["first"] = order.current()
        # The second thread is started before this one starts its own.
        second_runs.wait(5)
        started(helper).join()

    def second():
        seen["second"] = order.current()
        second_runs.set()

    with order.numbered():
        for thread in [started(first), started(second)]:
            thread.join()

    assert seen == {"first": (0,), "helper": (0, 0), "second": (1,)}
    assert order.current() == ()


def test_threads_of_one_role_share_their_number():
    order = ThreadOrder(role_of=lambda thread: thread._target.__name__)
    seen = []

    def fetch():
        seen.append(order.current())

    def query():
        seen.append(order.current())

    with order.numbered():
        for function in (fetch, query, fetch):
            started(function).join()

    assert seen == [("fetch",), ("query",), ("fetch",)]


def test_records_of_a_thread_keep_their_order():
    threads = [(), (0, 0), (0,), (), (0, 0), (1,)]

    assert by_thread("abcdef", threads) == ("a", "d", "c", "b", "e", "f")


def test_items_of_one_thread_keep_their_order():
    assert by_thread("cab", [(0,), (0,), (0,)]) == ("c", "a", "b")
    assert by_thread("", []) == ()
