"""Threads of the storage tier: policies, aborts, errors, ends, and every schedule."""

import threading

import pytest

from assembler.controller.prefetch_policy import PrefetchOptions
from assembler.errors import DeadlockError, StorageError
from assembler.names import ComponentType
from assembler.storage.hooks import Prefetch
from assembler.storage.paged import PagedStorage
from tests.assembler.controller.storage_stack import (
    PAGE,
    anchor_of,
    back_up,
    finish,
    keys_of,
    stack,
    start,
    stored,
    wait_for_backups,
)
from tests.assembler.storage.stores import FailingBlobs, content, equal, slots_of
from traces.simulator import Schedule, SchedulePolicy, SimDevice


class HeldBlobs(FailingBlobs):
    """A store that answers no ``get`` before it is released."""

    def __init__(self):
        super().__init__()
        self.asked, self.released = threading.Event(), threading.Event()

    def get(self, name):
        self.asked.set()
        self.released.wait(60)
        return super().get(name)


def held(controller):
    """Store three pages in a store that holds back what it is asked for; start a prefetch."""
    storage = controller.storage_tier.storage
    assert isinstance(storage, PagedStorage)
    storage.blobs = HeldBlobs()
    keys = stored(controller)
    start(controller, keys, full=slots_of(8, 9, 10))
    assert storage.blobs.asked.wait(60)
    return storage.blobs


def test_wait_complete_waits(cpu):
    _, controller = stack(cpu)
    blobs = held(controller)

    assert controller.storage_tier.finish_prefetch("r", abort=False) is None
    blobs.released.set()
    assert finish(controller).page_num == 3
    controller.shutdown()


@pytest.mark.parametrize(("seconds", "is_over"), [(2.0, False), (2.1, True)])
def test_time_out_waits_until_it_is_late(cpu, seconds, is_over):
    options = {"prefetch_timeout_base": 1.0, "prefetch_timeout_per_ki_token": 1024 / 12}
    _, controller = stack(cpu, **{**options, "prefetch_policy": "timeout"})
    now = [50.0]
    controller.storage_tier.clock = lambda: now[0]
    blobs = held(controller)
    now[0] += seconds
    threading.Timer(0.05, blobs.released.set).start()

    result = controller.storage_tier.finish_prefetch("r", abort=False)

    assert (result is not None) is is_over
    controller.shutdown()


def test_best_effort_takes_what_is_there(cpu):
    _, controller = stack(cpu, prefetch_policy="best_effort")
    blobs = held(controller)
    blobs.released.set()

    assert controller.storage_tier.finish_prefetch("r", abort=False) is not None
    controller.shutdown()


def test_an_abort_ends_a_prefetch_that_its_policy_lets_go_on(cpu):
    _, controller = stack(cpu)
    blobs = held(controller)
    blobs.fail("get")
    assert controller.storage_tier.finish_prefetch("r", abort=False) is None
    blobs.released.set()

    assert controller.storage_tier.finish_prefetch("r", abort=True).page_num == 0
    with pytest.raises(StorageError, match=r"request r: must have a prefetch under way"):
        controller.storage_tier.finish_prefetch("r", abort=True)
    controller.shutdown()


def test_a_reset_ends_what_is_under_way_and_the_tier_works_on(cpu):
    group, controller = stack(cpu)
    blobs = held(controller)
    back_up(controller, keys_of(controller, 2), full=slots_of(0, 1))
    threading.Timer(0.05, blobs.released.set).start()

    controller.reset()
    after = content(anchor_of(group), 8 * PAGE)

    assert controller.storage_tier.finished_backups() == []
    assert controller.storage_tier.prefetch_tokens_occupied == 0
    keys = stored(controller)
    assert equal(content(anchor_of(group), 8 * PAGE), after)
    start(controller, keys, full=slots_of(8, 9, 10))
    assert finish(controller).page_num == 3
    controller.shutdown()


def test_shutdown_leaves_no_thread(cpu):
    before = threading.active_count()
    _, controller = stack(cpu)
    stored(controller)
    assert threading.active_count() == before + 2

    controller.shutdown()
    controller.shutdown()

    assert threading.active_count() == before


def test_an_error_in_a_prefetch_is_raised_where_its_result_is_asked_for(cpu):
    _, controller = stack(cpu)
    keys = stored(controller)
    controller.storage_tier.storage.blobs = blobs = FailingBlobs()
    blobs.fail("exists", KeyError("a mistake in a backend"))

    start(controller, keys, full=slots_of(8, 9, 10))

    with pytest.raises(KeyError, match="a mistake in a backend"):
        finish(controller)
    stored_again = controller.storage_tier.start_prefetch
    assert stored_again(
        Prefetch(
            request_id="r",
            keys=tuple(keys),
            prefix_keys=(),
            host={ComponentType.FULL: slots_of(8, 9, 10)},
        )
    )
    controller.detach_storage_backend()


def test_a_thread_that_dies_is_reported_and_not_waited_for(cpu):
    _, controller = stack(cpu)
    keys = stored(controller)
    controller.storage_tier.storage.blobs = blobs = FailingBlobs()
    blobs.fail("exists", SystemExit(3))
    start(controller, keys, full=slots_of(8, 9, 10))

    with pytest.raises(DeadlockError) as error:
        controller.storage_tier.finish_prefetch("r", abort=True)
    assert isinstance(error.value.__cause__, SystemExit)
    with pytest.raises(SystemExit):
        controller.shutdown()


def test_the_longest_time_bounds_every_prefetch():
    options, others = PrefetchOptions.split({"prefetch_timeout_max": 3, "path": "x"})
    assert others == {"path": "x"}
    assert options.may_end(is_over=False, seconds=3.1, token_num=10**6)
    assert not options.may_end(is_over=False, seconds=2.9, token_num=10**6)


@pytest.mark.parametrize("policy", [SchedulePolicy.RANDOM, SchedulePolicy.STARVE])
@pytest.mark.parametrize("seed", range(4))
def test_every_schedule_of_the_threads_gives_the_same_bytes_and_no_race(policy, seed):
    schedule = Schedule(seed=seed, policy=policy)
    device = SimDevice(schedule=schedule, capacity_bytes=None, raise_races=True)
    group, controller = stack(device)
    keys = keys_of(controller, 3)
    back_up(controller, keys[:2], full=slots_of(0, 1))
    back_up(controller, keys, full=slots_of(0, 1, 2))
    wait_for_backups(controller, 2)
    kept = content(anchor_of(group), 2 * PAGE)
    start(controller, keys, full=slots_of(8, 9, 10))
    back_up(controller, keys_of(controller, 4), full=slots_of(3, 4, 5, 6))

    assert finish(controller).page_num == 3
    wait_for_backups(controller)
    controller.shutdown()

    assert equal(content(anchor_of(group), 10 * PAGE), kept)


def test_reading_host_slots_that_are_being_fetched_is_a_race():
    """The control of the test above: without asking for the result nothing orders the two."""
    schedule = Schedule(seed=0, policy=SchedulePolicy.EARLIEST)
    device = SimDevice(schedule=schedule, capacity_bytes=None, raise_races=False)
    group, controller = stack(device)
    keys = stored(controller)
    start(controller, keys, full=slots_of(8, 9, 10))
    device_slots = controller.load(slots_of(8, 9, 10))
    assert device_slots is not None
    controller.start_loading()
    finish(controller)
    device.synchronize()
    controller.shutdown()

    assert any("fetch KV" in str(race) for race in device.races)
    assert anchor_of(group).device is device
