import gc
import os

import pytest
import torch

from assembler.device import locked_memory
from assembler.device.locked_memory import HUGE_PAGE_BYTES, locked_bytes, parse_cpus
from assembler.errors import OutOfHostMemoryError


class Driver:
    """Remembers what is registered."""

    def __init__(self, *, accepts=True):
        self.accepts = accepts
        self.registered = {}

    def register(self, address, size):
        if self.accepts:
            self.registered[address] = size
        return self.accepts

    def unregister(self, address):
        del self.registered[address]

    def bytes(self, size, cpus=frozenset()):
        return locked_bytes(size, register=self.register, unregister=self.unregister, cpus=cpus)


def test_memory_is_registered_as_long_as_a_view_of_it_lives():
    driver = Driver()
    memory = driver.bytes(5000)
    assert driver.registered == {memory.data_ptr(): 5000}

    part = memory.view(torch.int64)[3:]
    part.fill_(7)
    del memory
    gc.collect()
    assert len(driver.registered) == 1
    assert part.eq(7).all()

    del part
    gc.collect()
    assert driver.registered == {}


@pytest.mark.parametrize("size", [1, HUGE_PAGE_BYTES, (64 << 20) + 1])
def test_memory_begins_at_a_huge_page_and_has_the_size_that_was_asked_for(size):
    memory = Driver().bytes(size)

    assert memory.data_ptr() % HUGE_PAGE_BYTES == 0
    assert memory.shape == (size,)
    assert memory[-1] == 0


def test_memory_that_the_driver_refuses_raises():
    with pytest.raises(OutOfHostMemoryError, match="room for 4096 bytes, got memory that cannot"):
        Driver(accepts=False).bytes(4096)


def test_memory_that_does_not_fit_raises():
    with pytest.raises(OutOfHostMemoryError, match="must be had and page-locked"):
        Driver().bytes(1 << 62)


def test_all_of_it_is_touched_by_threads_on_the_processors_beside_the_gpu(monkeypatch):
    cpu = min(os.sched_getaffinity(0))
    touched = []

    def populate(address, size):
        touched.append((address, size, os.sched_getaffinity(0)))

    monkeypatch.setattr(locked_memory, "_populate", populate)
    monkeypatch.setattr(locked_memory, "_PIECE_BYTES", 4096)

    memory = Driver().bytes(3 * 4096 + 5, cpus={cpu, 10_000})

    first = memory.data_ptr()
    assert sorted(touched) == [
        (first, 4096, {cpu}),
        (first + 4096, 4096, {cpu}),
        (first + 8192, 4096, {cpu}),
        (first + 12288, 5, {cpu}),
    ]
    touched.clear()
    before = os.sched_getaffinity(0)
    Driver().bytes(10, cpus={10_000})
    assert [used for _, _, used in touched] == [before]
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0-3,8\n", {0, 1, 2, 3, 8}), ("5", {5}), ("\n", set()), ("0-1,4-5", {0, 1, 4, 5})],
)
def test_lists_of_processors_are_read_as_linux_writes_them(text, cpus):
    assert parse_cpus(text) == cpus
