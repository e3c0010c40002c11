"""The allocator of pools with pages of several slots."""

from assembler.allocators.base import DeviceSlotAllocator


class PagedTokenToKVPoolAllocator(DeviceSlotAllocator):
    """Allocator of ``size // page_size`` whole pages, the first slot of which is ``page_size``.

    Source: sglang 0.5.12 ``allocator.py:362-530``. Token-wise extension of a partly filled page
    belongs to the scheduler and is not offered.
    """
