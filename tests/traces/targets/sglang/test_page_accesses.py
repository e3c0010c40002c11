"""The bytes that page methods use are found by numbers in the memory, and compared with backups."""

import pytest
import torch

from traces.schema.pools import ByteRange
from traces.targets.sglang.held_pools import HeldPool
from traces.targets.sglang.host_writes import HostWrites
from traces.targets.sglang.page_accesses import NumberedHostMemory, PageReader, _digits
from traces.targets.sglang.shims.kernel_moves import CopiedRows

PAGE, SLOTS, LAYERS, ROW = 4, 24, 2, 8
PAGE_BYTES = LAYERS * PAGE * ROW


class HostPool:
    """A host pool of 6 pages of 4 slots, by layer, of 8 bytes a row."""

    step = PAGE

    def __init__(self):
        self.size, self.page_size = SLOTS, PAGE
        self.kv_buffer = torch.full((LAYERS, SLOTS, ROW), 7, dtype=torch.uint8)

    def get_data_page(self, index, flat=True):
        page = self.kv_buffer[:, index : index + PAGE]
        return page.flatten() if flat else page

    def get_dummy_flat_data_page(self):
        return torch.zeros(PAGE_BYTES, dtype=torch.uint8, pin_memory=True)

    def set_from_flat_data_page(self, index, data_page):
        self.kv_buffer[:, index : index + PAGE] = data_page.reshape(LAYERS, PAGE, ROW)

    def get_page_buffer_meta(self, indices):
        pointers = [
            self.kv_buffer[layer].data_ptr() + int(first) * ROW
            for first in indices[:: self.step]
            for layer in range(LAYERS)
        ]
        return pointers, [PAGE * ROW] * len(pointers)

    def is_page_aligned(self, page_bytes=4096):
        return False


class ShiftedPool(HostPool):
    """The getter begins a page late."""

    def get_data_page(self, index, flat=True):
        return super().get_data_page((index + PAGE) % SLOTS)


class NarrowPool(HostPool):
    """The lengths leave out half a page."""

    def get_page_buffer_meta(self, indices):
        pointers, sizes = super().get_page_buffer_meta(indices)
        return pointers, [size // 2 for size in sizes]


class FirstPagePool(HostPool):
    """Of several pages it describes the first one only."""

    step = SLOTS


class LayeredPool(HostPool):
    """Of several pages it describes all first layers, then all others."""

    def get_page_buffer_meta(self, indices):
        pointers, sizes = super().get_page_buffer_meta(indices)
        return sorted(pointers), sizes


class TransposedPool(HostPool):
    """The setter swaps the layers."""

    def set_from_flat_data_page(self, index, data_page):
        self.kv_buffer[:, index : index + PAGE] = data_page.reshape(LAYERS, PAGE, ROW).flip(0)


class ConstantPool(HostPool):
    """The getter answers bytes that are in no buffer."""

    def get_data_page(self, index, flat=True):
        return torch.full((PAGE_BYTES,), 250, dtype=torch.uint8)


class UnsupportedPool(HostPool):
    def get_data_page(self, index, flat=True):
        raise NotImplementedError("no flat pages")

    def get_page_view(self, index, tier):
        return index, tier


def accesses(pool):
    """The records of a pool whose pages 1 and 2 were backed up, layer by layer."""
    writes = HostWrites()
    for layer in range(LAYERS):
        start = pool.kv_buffer[layer].data_ptr()
        copied = CopiedRows(address=start, stride=ROW, rows=torch.arange(PAGE, 3 * PAGE))
        writes.add(pool, copied, ROW)
    memory = NumberedHostMemory(pool, is_device=lambda address: False)
    held = HeldPool(path="host.KV", name="KV", pool=pool, outer=())
    reader = PageReader(
        held,
        memory=memory,
        page_size=PAGE,
        slots=torch.arange(PAGE, 3 * PAGE),
        backed_up=memory.backed_up(pool, writes),
    )
    return {one.method: one for one in reader.accesses(step="pools")}


def counts(access):
    return access.missing_bytes, access.foreign_bytes, access.shared_bytes


@pytest.fixture
def sound():
    return accesses(HostPool())


def test_every_page_method_is_called_and_others_are_not(sound):
    assert {name: one.use for name, one in sound.items()} == {
        "get_data_page": "read",
        "get_page_buffer_meta": "describe",
        "set_from_flat_data_page": "write",
    }


def test_pages_are_the_bytes_of_their_backups(sound):
    assert [counts(one) for one in sound.values()] == [(0, 0, 0)] * 3
    assert {(one.pages, one.page_bytes) for one in sound.values()} == {(6, PAGE_BYTES)}
    assert len({one.order for one in sound.values()}) == 1
    assert sound["get_data_page"].first == (
        ByteRange(buffer="kv_buffer", first=0, bytes=PAGE * ROW),
        ByteRange(buffer="kv_buffer", first=SLOTS * ROW, bytes=PAGE * ROW),
    )


def test_a_getter_that_begins_a_page_late_reads_one_page_for_another():
    found = accesses(ShiftedPool())
    # Of the two backed-up pages it reads the second, and one behind them.
    assert counts(found["get_data_page"]) == (PAGE_BYTES, PAGE_BYTES, 0)
    assert counts(found["set_from_flat_data_page"]) == (0, 0, 0)
    assert found["get_data_page"].order != found["set_from_flat_data_page"].order


def test_lengths_that_are_too_short_leave_bytes_out():
    assert counts(accesses(NarrowPool())["get_page_buffer_meta"]) == (PAGE_BYTES, 0, 0)


def test_pages_that_are_described_at_once_are_the_single_ones(sound):
    found = accesses(FirstPagePool())["get_page_buffer_meta"]
    assert counts(found) == (5 * PAGE_BYTES, 0, 0)
    assert found.order != sound["get_page_buffer_meta"].order
    assert found.first == sound["get_page_buffer_meta"].first


def test_another_order_of_pages_described_at_once_is_told_and_leaves_nothing_out(sound):
    found = accesses(LayeredPool())["get_page_buffer_meta"]
    assert counts(found) == (0, 0, 0)
    assert found.order != sound["get_page_buffer_meta"].order


def test_a_setter_that_swaps_layers_covers_the_page_in_another_order(sound):
    swapped = accesses(TransposedPool())["set_from_flat_data_page"]
    assert counts(swapped) == (0, 0, 0)
    assert swapped.order != sound["set_from_flat_data_page"].order


def test_a_method_that_cannot_be_called_is_recorded_with_the_reason():
    found = accesses(UnsupportedPool())
    assert found["get_data_page"].reason == "NotImplementedError: no flat pages"
    assert found["get_page_view"].reason == "PageMethodError: takes tier, which is not known"
    assert found["get_page_buffer_meta"].reason == ""


def test_the_memory_is_as_before_afterwards():
    pool = HostPool()
    accesses(pool)
    assert (pool.kv_buffer == 7).all()


def test_bytes_of_other_memory_are_foreign():
    # Both pages that were backed up are missing, and as many bytes of no buffer are answered.
    assert counts(accesses(ConstantPool())["get_data_page"]) == (2 * PAGE_BYTES, 2 * PAGE_BYTES, 0)


@pytest.mark.parametrize("power", range(4))
@pytest.mark.parametrize(
    ("first", "end"), [(0, 0), (0, 5), (3, 700), (255, 257), (65530, 65600), (16777200, 16777300)]
)
def test_digits_of_consecutive_numbers(first, end, power):
    wanted = [number // 256**power % 256 for number in range(first, end)]
    assert _digits(first, end, power).tolist() == wanted
