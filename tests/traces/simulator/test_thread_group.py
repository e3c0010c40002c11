"""Host threads are used alike on every device."""

import threading

import pytest
import torch

from assembler.device import get_device
from assembler.errors import DeadlockError, HostThreadError
from traces.simulator import Schedule, SchedulePolicy, SimDevice

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(
    params=[
        "cpu",
        *SchedulePolicy,
        pytest.param("cuda", marks=[pytest.mark.cuda, NEEDS_CUDA]),
    ]
)
def device(request):
    if request.param in ("cpu", "cuda"):
        return get_device(request.param)
    schedule = Schedule(seed=1, policy=request.param)
    return SimDevice(schedule=schedule, capacity_bytes=None, raise_races=True)


def fail():
    raise KeyError("lost")


def in_block(device, work):
    with device.threads() as threads:
        work(threads)


def test_items_arrive_in_order_until_the_queue_is_closed(device):
    got = []
    with device.threads() as threads:
        items = threads.queue(name="items")

        def consume():
            while (item := items.get()) is not None:
                got.append(item)
            got.append("closed")

        threads.start(consume, name="consumer")
        for item in (1, 2, 3):
            items.put(item)
        items.close()
        items.close()

    assert got == [1, 2, 3, "closed"]


def test_closed_queue_takes_nothing(device):
    with device.threads() as threads:
        items = threads.queue(name="items")
        items.close()
        with pytest.raises(ValueError, match=r"^queue items: must be open; expected no put, got 1"):
            items.put(1)
        assert items.get() is None
        assert items.poll() is None


def test_polling_takes_what_is_there(device):
    with device.threads() as threads:
        items = threads.queue(name="items")
        assert items.poll() is None
        items.put(1)
        assert items.poll() == 1


def test_flag_stays_set(device):
    with device.threads() as threads:
        flag = threads.flag(name="ready")
        assert not flag.is_set()
        flag.set()
        flag.set()
        flag.wait()
        assert flag.is_set()


def test_every_thread_is_one_of_its_own(device):
    local, idents = threading.local(), set()

    def work():
        assert not hasattr(local, "number")
        local.number = 1
        device.synchronize()
        idents.add(threading.get_ident())
        assert threading.current_thread().name in ("a", "b")

    local.number = 0
    with device.threads() as threads:
        waiting = threads.flag(name="both live")
        threads.start(lambda: (waiting.wait(), work()), name="a")
        threads.start(lambda: (waiting.set(), waiting.wait(), work()), name="b")
    assert local.number == 0
    assert threading.get_ident() not in idents


def test_leaving_the_block_waits_for_every_thread(device):
    done = []
    with device.threads() as threads:

        def start_another():
            threads.start(lambda: done.append("grandchild"), name="grandchild")
            done.append("child")

        threads.start(start_another, name="child")

    assert sorted(done) == ["child", "grandchild"]


def test_joined_thread_is_finished(device):
    with device.threads() as threads:
        thread = threads.start(device.synchronize, name="worker")
        thread.join()
        thread.join()
        assert thread.is_finished
        assert thread.name == "worker"


def test_join_raises_what_the_thread_raised(device):
    with device.threads() as threads:
        thread = threads.start(fail, name="worker")
        with pytest.raises(KeyError, match="lost"):
            thread.join()


def test_error_that_nobody_joined_is_raised_at_the_end_of_the_block(device):
    with pytest.raises(KeyError, match="lost"):
        in_block(device, lambda threads: threads.start(fail, name="worker"))


def test_error_goes_on_to_the_thread_that_joins(device):
    def work(threads):
        failing = threads.start(fail, name="failing")
        joining = threads.start(failing.join, name="joining")
        with pytest.raises(KeyError, match="lost"):
            joining.join()

    in_block(device, work)


def test_threads_that_wait_are_unwound_when_another_one_failed(device):
    seen = []

    def work(threads):
        items, started = threads.queue(name="items"), threads.flag(name="started")

        def wait():
            try:
                started.set()
                items.get()
                seen.append("got something")
            except Exception:  # noqa: BLE001 - what a controller might do
                seen.append("swallowed")
            finally:
                seen.append("cleaned up")

        threads.start(wait, name="waiter")
        threads.start(lambda: (started.wait(), fail()), name="failing")

    with pytest.raises(KeyError, match="lost"):
        in_block(device, work)
    assert seen == ["cleaned up"]


def test_error_of_the_block_unwinds_the_others_and_mentions_theirs(device):
    def work(threads):
        reached = threads.flag(name="reached")
        threads.start(threads.flag(name="never").wait, name="waiter")
        threads.start(lambda: (reached.set(), fail()), name="failing")
        reached.wait()
        raise ValueError("own")

    with pytest.raises(ValueError, match="own") as caught:
        in_block(device, work)
    assert caught.value.__notes__ == ["a host thread raised KeyError('lost')"]


def test_deadlock_names_everybody_and_what_is_waited_for(device):
    def work(threads):
        wanted, stop = threads.queue(name="wanted"), threads.flag(name="stop")
        prefetch = threads.start(wanted.get, name="prefetch")
        threads.start(stop.wait, name="backup")
        prefetch.join()

    with pytest.raises(
        DeadlockError,
        match=r"^host threads: a thread must be runnable; "
        r"expected a runnable thread or stream, "
        r"got the host waits for the end of thread prefetch, "
        r"thread prefetch waits for an item in queue wanted, "
        r"thread backup waits for flag stop$",
    ):
        in_block(device, work)


def test_hand_over_that_comes_is_no_deadlock(device):
    """Control: the same threads, and somebody who hands over."""

    def work(threads):
        wanted, stop = threads.queue(name="wanted"), threads.flag(name="stop")
        prefetch = threads.start(wanted.get, name="prefetch")
        threads.start(lambda: (stop.wait(), wanted.put(1)), name="backup")
        stop.set()
        prefetch.join()

    in_block(device, work)


def test_deadlock_at_the_end_of_the_block_is_an_error(device):
    with pytest.raises(
        DeadlockError,
        match=r"got the host waits for the end of every thread, thread backup waits for flag stop$",
    ):
        in_block(
            device, lambda threads: threads.start(threads.flag(name="stop").wait, name="backup")
        )


def test_thread_that_joins_itself_is_a_deadlock(device):
    def work(threads):
        own = threads.queue(name="own")
        own.put(threads.start(lambda: own.get().join(), name="self"))

    with pytest.raises(DeadlockError, match="thread self waits for the end of thread self"):
        in_block(device, work)


def test_deadlock_because_of_a_failed_thread_shows_its_error(device):
    def work(threads):
        threads.start(fail, name="producer")
        threads.queue(name="items").get()

    with pytest.raises(DeadlockError, match=r"host waits for an item in queue items$") as caught:
        in_block(device, work)
    assert isinstance(caught.value.__cause__, KeyError)


def test_names_are_unique(device):
    with device.threads() as threads:
        threads.start(lambda: None, name="worker")
        with pytest.raises(HostThreadError, match="expected none of the host, worker, got worker"):
            threads.start(lambda: None, name="worker")


def test_thread_cannot_start_outside_of_its_block(device):
    threads = device.threads()
    with pytest.raises(HostThreadError):
        threads.start(lambda: None, name="early")
    with threads:
        pass
    with pytest.raises(HostThreadError):
        threads.start(lambda: None, name="late")
    with pytest.raises(HostThreadError, match="block opens once"), threads:
        pass
