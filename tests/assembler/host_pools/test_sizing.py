import pytest

from assembler.errors import OutOfHostMemoryError, PoolError
from assembler.host_pools.sizing import HostSize, check_host_memory, host_page_num


def pages(*, ratio=2.0, size_gb=0, page_size=16, device_size=256, size_per_token=1968):
    return host_page_num(
        subject="host",
        size=HostSize(host_to_device_ratio=ratio, host_size=size_gb, page_size=page_size),
        device_size=device_size,
        size_per_token=size_per_token,
    )


def test_one_page_is_added_even_when_the_size_is_whole_pages():
    assert pages(ratio=2.0) == 33  # 512 / 16 + 1
    assert pages(ratio=1.0) == 17
    assert pages(ratio=2.01) == 33  # 514 slots


def test_gigabytes_are_decimal_and_win_over_the_ratio():
    # 1e9 // 1968 = 508130 slots; 508130 // 16 + 1.
    assert pages(ratio=9.0, size_gb=1) == 31759


def test_narrow_rows_buy_more_slots():
    """DeepSeek-V3.2, 61 layers: 35136 instead of 40016 bytes a token."""
    assert pages(size_gb=10, page_size=64, size_per_token=61 * 656) == 3905
    assert pages(size_gb=10, page_size=64, size_per_token=61 * 576) == 4448


@pytest.mark.parametrize("ratio", [0.9, 0.95])
def test_host_not_larger_than_the_device_raises(ratio):
    with pytest.raises(PoolError, match="expected more than 256 slots, got "):
        pages(ratio=ratio)


def test_host_of_exactly_the_device_size_raises():
    # 240 slots = 15 pages, and one: 256.
    with pytest.raises(PoolError, match="expected more than 256 slots, got 256"):
        pages(ratio=0.9375)


def test_pool_that_fits_passes():
    check_host_memory(subject="host", requested_bytes=1 << 20)


def test_pool_that_no_host_can_hold_raises():
    with pytest.raises(OutOfHostMemoryError, match=r"^host: .* got 1000000000\.00 GB$"):
        check_host_memory(subject="host", requested_bytes=10**18)
