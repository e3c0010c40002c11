"""Copies to the host race with other streams unless they wait for the device on both ends."""

import pytest
import torch

from traces.targets.common.planes import SlotDomain, planes_of
from traces.targets.sglang.held_pools import HeldPool
from traces.targets.sglang.host_copies import HostCopies, copying_methods
from traces.targets.sglang.script_device import ScriptDevice

SLOTS = 5
SOURCE, TARGET = torch.tensor([1]), torch.tensor([2])
WAITS = ("before the copy", "behind the copy", "before the load", "behind the load")


class Pool:
    """A state of each slot; ``lost`` is the one wait that it leaves out."""

    def __init__(self, lost):
        self.temporal = torch.zeros(SLOTS + 1, 8)
        self.lost = lost
        self.requests = []

    def wait(self, where):
        if where != self.lost:
            torch.cuda.synchronize()

    def get_cpu_copy(self, indices, req_pool_index=None):
        self.requests.append(req_pool_index)
        self.wait("before the copy")
        copied = [{"states": self.temporal[indices].to("cpu", non_blocking=True)}]
        self.wait("behind the copy")
        return copied

    def load_cpu_copy(self, data, indices):
        self.wait("before the load")
        self.temporal[indices] = data[0]["states"]
        self.wait("behind the load")


class BlockingPool(Pool):
    """Its copy to the host waits by itself for the stream that it is made on."""

    def get_cpu_copy(self, indices):
        self.wait("before the copy")
        return [{"states": self.temporal[indices].to("cpu")}]


class ChunkedPool(Pool):
    """Copies so many slots at a time as its chunks have."""

    def __init__(self, lost=""):
        super().__init__(lost)
        self.page_size = 4
        self.offloading_chunk_size = 4096
        self.chunks = []

    def get_cpu_copy(self, indices):
        self.chunks.append(self.offloading_chunk_size)
        return super().get_cpu_copy(indices)

    def load_cpu_copy(self, data, indices):
        self.chunks.append(self.offloading_chunk_size)
        super().load_cpu_copy(data, indices)


class SiblingState:
    """State of the same slots; whoever copies it waits for the device."""

    __module__ = "sglang.states"  # only memory of the release's own objects is found

    def __init__(self):
        self.conv = torch.zeros(SLOTS + 1, 8)

    def get_cpu_slots(self, indices):
        return self.conv[indices].to("cpu", non_blocking=True)

    def load_cpu_slots(self, data, indices):
        self.conv[indices] = data


class PoolWithSibling(Pool):
    """Copies the state of a sibling along, or forgets it."""

    def __init__(self, *, forgets):
        super().__init__(lost="")
        self.sibling = SiblingState()
        self.forgets = forgets

    def get_cpu_copy(self, indices):
        self.wait("before the copy")
        copied = [{"states": self.temporal[indices].to("cpu", non_blocking=True)}]
        copied += [] if self.forgets else [self.sibling.get_cpu_slots(indices)]
        self.wait("behind the copy")
        return copied

    def load_cpu_copy(self, data, indices):
        self.wait("before the load")
        self.temporal[indices] = data[0]["states"]
        if not self.forgets:
            self.sibling.load_cpu_slots(data[1], indices)
        self.wait("behind the load")


class RefusingPool(Pool):
    """Cannot load what it copied."""

    def load_cpu_copy(self, data, indices):
        raise NotImplementedError("no load")


class ShortNames(Pool):
    """Names the copy without a verb, and has methods that are no pair."""

    def cpu_copy(self, indices):
        return super().get_cpu_copy(indices)

    get_cpu_copy = None

    def load_rows(self, data, indices):
        raise AssertionError("nothing makes such rows")

    def get_numbers(self, count):
        raise AssertionError("takes no slots")

    def load_numbers(self, data, indices):
        raise AssertionError("what makes numbers takes no slots")


@pytest.fixture
def play(device, installed):
    """Play the copies of a pool; return their records and what raced."""

    def played(pool, domain="MAMBA"):
        installed.watch(pool.temporal, "temporal")
        held = [HeldPool(path="states", name="states", pool=pool, outer=())]
        if hasattr(pool, "sibling"):
            installed.watch(pool.sibling.conv, "sibling.conv")
            inner = HeldPool(path="sibling", name="sibling", pool=pool.sibling, outer=())
            held.insert(0, inner)
        slots = SlotDomain(name=domain, slot_num=SLOTS, page_size=1)
        planes = tuple(planes_of("MAMBA", pool, slots, host=None, taken=set()))
        copies = HostCopies(
            device=ScriptDevice(device, pause_interception=installed.pause_interception),
            planes=planes,
            slots={"MAMBA": (SOURCE, TARGET)},
        )
        found = tuple(copies.of_pools([(one, slots) for one in held]))
        return found, {(race.first.label, race.second.label) for race in device.races}

    return played


def test_a_pool_that_waits_on_both_ends_races_with_nothing(play):
    pool = Pool(lost="")

    (record,), races = play(pool)

    assert races == set()
    assert (record.holder, record.method, record.loads) == (
        "states",
        "get_cpu_copy",
        "load_cpu_copy",
    )
    assert record.streams == ("copy.states.get_cpu_copy", "copy.states.load_cpu_copy")
    assert (record.planes, record.reason) == (("MAMBA.temporal",), "")
    assert pool.requests == [1]


@pytest.mark.parametrize("lost", WAITS)
def test_each_lost_wait_is_a_race(play, lost):
    (record,), races = play(Pool(lost))

    assert record.reason == ""
    assert races


def test_a_copy_of_rows_that_are_not_written_yet_has_others(play):
    (record,), _ = play(Pool("before the copy"))

    assert record.planes == ()


def test_a_blocking_copy_needs_no_wait_behind_it(play):
    (record,), races = play(BlockingPool(lost=""))

    assert races == set()
    assert record.planes == ("MAMBA.temporal",)


def test_chunks_are_smaller_than_a_page_while_copies_are_made(play):
    pool = ChunkedPool()

    (record,), _ = play(pool)

    assert (record.planes, record.reason) == (("MAMBA.temporal",), "")
    assert (pool.chunks, pool.offloading_chunk_size) == ([2, 2], 4096)


def test_what_cannot_be_copied_is_recorded_with_the_reason(play):
    (record,), _ = play(RefusingPool(lost=""))

    assert (record.planes, record.reason) == ((), "NotImplementedError: no load")


def test_a_pool_whose_slots_are_not_known_is_named(play):
    (record,), races = play(Pool(lost="before the copy"), domain="KV")

    assert record.reason == "the slots of the pool are not known"
    assert races == set()


def test_pairs_are_found_by_their_names_and_what_they_take():
    pools = (Pool(lost=""), ShortNames(lost=""))
    held = [HeldPool(path="", name="", pool=pool, outer=()) for pool in pools]

    assert [list(copying_methods(one)) for one in held] == [
        [("get_cpu_copy", "load_cpu_copy")],
        [("cpu_copy", "load_cpu_copy")],
    ]


@pytest.mark.parametrize("forgets", [False, True], ids=["is a part", "control: is on its own"])
def test_what_a_copy_of_another_name_calls_is_tried_with_it(play, forgets):
    found, races = play(PoolWithSibling(forgets=forgets))

    alone = [("sibling", "get_cpu_slots", ())] if forgets else []
    planes = ("MAMBA.temporal",) if forgets else ("MAMBA.conv", "MAMBA.temporal")
    assert [(one.holder, one.method, one.planes) for one in found] == [
        ("states", "get_cpu_copy", planes),
        *alone,
    ]
    assert bool(races) is forgets
