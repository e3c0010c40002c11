"""Threads of storage: waiting ends when each waits for work, or one has ended by an error."""

import threading
from queue import Empty, Queue
from types import SimpleNamespace

import pytest

from traces.targets.sglang.errors import StageError
from traces.targets.sglang.storage import threads
from traces.targets.sglang.storage.threads import StorageThreads, capture_thread_errors


class Controller:
    """Two threads as releases have: one hands on what the other finishes."""

    def __init__(self, *, work):
        self.first, self.second, self.done = Queue(), Queue(), []
        self._work = work
        self.query_thread = threading.Thread(target=self._hand_on, daemon=True)
        self.fetch_thread = threading.Thread(target=self._finish, daemon=True)
        self.query_thread.start()
        self.fetch_thread.start()

    def _hand_on(self):
        for item in self._items(self.first):
            self.second.put(item)

    def _finish(self):
        for item in self._items(self.second):
            self.done.append(self._work(item))

    @staticmethod
    def _items(queue):
        while True:
            try:
                item = queue.get(block=True, timeout=0.2)
            except Empty:
                continue
            if item is None:
                return
            yield item

    def stop(self):
        self.first.put(None)
        self.second.put(None)


@pytest.fixture
def started():
    found = []

    def start(work):
        found.append(Controller(work=work))
        return found[-1]

    with threads.watched_queues():
        yield start
        for controller in found:
            controller.stop()


def test_everything_that_was_begun_is_done_when_the_threads_are_quiet(started):
    pause = threading.Event()

    def slow(item):
        pause.wait(0.01)
        return item * 2

    controller = started(slow)
    with capture_thread_errors() as errors:
        for item in range(1, 6):
            controller.first.put(item)
        StorageThreads(controller, errors).settle("prefetch")
        assert controller.done == [2, 4, 6, 8, 10]


def test_wait_for_another_threads_result_is_no_quiet(started):
    held = threading.Event()
    controller = started(lambda item: held.wait(10) and item)
    with capture_thread_errors() as errors:
        controller.first.put(1)
        waiting = threading.Thread(
            target=StorageThreads(controller, errors).settle, args=("prefetch",)
        )
        waiting.start()
        waiting.join(timeout=0.1)
        assert waiting.is_alive()
        held.set()
        waiting.join(timeout=10)
        assert not waiting.is_alive()
        assert controller.done == [1]


def test_work_of_a_thread_that_the_controller_has_forgotten_is_waited_for(started):
    held = threading.Event()
    controller = started(lambda item: held.wait(10) and item)
    controller.first.put(1)
    while not controller.second.empty() or not controller.first.empty():
        pass
    del controller.query_thread, controller.fetch_thread
    waiting = threading.Thread(target=StorageThreads(controller, {}).settle, args=("prefetch",))
    waiting.start()
    waiting.join(timeout=0.1)
    assert waiting.is_alive()
    held.set()
    waiting.join(timeout=10)
    assert controller.done == [1]


def test_waiting_ends_with_a_thread_that_an_error_ended(started, capfd):
    def fail(_item):
        raise NotImplementedError("flat pages\nare not supported")

    controller = started(fail)
    expected = (
        "write_storage: must be acknowledged; expected fetch_thread to go on, "
        "got NotImplementedError: flat pages are not supported"
    )
    with capture_thread_errors() as errors:
        controller.first.put(1)
        with pytest.raises(StageError) as raised:
            StorageThreads(controller, errors).settle("write_storage")
    assert str(raised.value) == expected
    assert capfd.readouterr().err == ""


def test_error_of_a_thread_that_ends_while_it_is_looked_at_is_told(started, monkeypatch):
    def fail(_item):
        raise NotImplementedError

    controller = started(fail)
    with capture_thread_errors() as errors:
        threads_of = StorageThreads(controller, errors)
        is_quiet = threads_of._is_quiet

        def look_late():
            controller.first.put(1)
            controller.fetch_thread.join()
            return is_quiet()

        monkeypatch.setattr(threads_of, "_is_quiet", look_late)
        with pytest.raises(StageError, match="got NotImplementedError"):
            threads_of.settle("write_storage")


def test_waiting_ends_when_a_thread_has_no_end(started, monkeypatch):
    monkeypatch.setattr(threads, "_TIMEOUT_S", 0.05)
    held = threading.Event()
    controller = started(lambda _item: held.wait(10))
    controller.first.put(1)
    with pytest.raises(StageError, match=r"expected it in 0\.05 s, got no end"):
        StorageThreads(controller, {}).settle("prefetch")
    held.set()


def test_controller_without_threads_is_quiet():
    StorageThreads(SimpleNamespace(prefetch_thread=None), {}).settle("prefetch")


def test_a_paused_thread_starts_where_it_is_waited_for(started):
    controller = started(lambda item: item)
    with capture_thread_errors() as errors, threads.storage_paused():
        order: list[str] = []
        worker = threading.Thread(target=lambda: (threads.wait_for_start(), order.append("thread")))
        worker.start()
        controller.worker = worker
        order.append("script")
        threads.wait_for_start()
        StorageThreads(controller, errors).settle("prefetch")
        worker.join()
        assert order == ["script", "thread"]
        with threads.storage_working():
            threading.Thread(target=threads.wait_for_start).start()
        assert not threads._MAY_START.is_set()
    assert threads._MAY_START.is_set()


def test_paused_threads_have_taken_what_they_are_given_and_start_where_one_is_joined(started):
    done = threading.Event()
    controller = started(lambda _: done.set())
    with threads.storage_paused():
        controller.second.put("page")
        StorageThreads(controller, {}).hold("work")
        assert (controller.second.qsize(), done.is_set()) == (0, False)
        with StorageThreads(controller, {}).working_once_joined():
            assert not done.wait(0.05)
            controller.stop()
            controller.fetch_thread.join()
        assert done.is_set()


def test_threads_that_take_nothing_are_not_waited_for_longer_than_the_time(started, monkeypatch):
    monkeypatch.setattr(threads, "_TIMEOUT_S", 0.05)
    go_on = threading.Event()
    controller = started(lambda _: go_on.wait())
    controller.first.put("page")
    try:
        with pytest.raises(StageError, match="work: must be taken"):
            StorageThreads(controller, {}).hold("work")
    finally:
        go_on.set()


@pytest.mark.parametrize(("patience", "is_over"), [(1.0, True), (60, False)])
def test_a_thread_that_waits_long_does_not_look_sooner(patience, is_over):
    """What it does when the time is over would be done as often as the machine is slow."""
    empty, given_up = Queue(), threading.Event()

    def wait():
        try:
            empty.get(timeout=patience)
        except Empty:
            given_up.set()

    with threads.watched_queues():
        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        assert given_up.wait(0.5) is is_over
        empty.put("end")
        waiting.join(5)
        assert not waiting.is_alive()
