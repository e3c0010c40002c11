from collections.abc import Callable
from typing import Any

import pytest
import torch

from assembler.device import tensor_access
from traces.simulator import SimDevice
from traces.targets.sglang import shims
from traces.targets.sglang.shims import element_origins


@pytest.fixture
def pool(installed: shims.Shims) -> torch.Tensor:
    """Three layers of eight slots."""
    pool = torch.arange(3 * 8 * 4, dtype=torch.int64).view(3, 8, 4)
    installed.watch(pool, "device pool")
    return pool


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(element_origins, "report_copy", lambda **call: calls.append(call))
    return calls


def test_writes_to_a_pool_happen_when_the_stream_gets_there(
    installed: shims.Shims, device: SimDevice, pool: torch.Tensor
) -> None:
    source = torch.full((4,), 5)
    pool[1][2] = source
    source.fill_(6)
    with installed.pause_interception():
        assert int(pool[1, 2, 0]) == 40
    device.synchronize()
    with installed.pause_interception():
        assert pool[1, 2].tolist() == [5, 5, 5, 5]


def test_results_wait_for_the_stream_and_order_nothing(
    installed: shims.Shims, device: SimDevice, pool: torch.Tensor
) -> None:
    pool.fill_(9)
    total = pool.sum()
    with installed.pause_interception():
        assert int(total) == 9 * 3 * 8 * 4
    device.host_access(label="read", reads=(), writes=(tensor_access(pool),))
    assert len(device.races) == 2


@pytest.mark.parametrize(
    "read",
    [
        lambda pool: int(pool.sum()),
        lambda pool: pool.tolist(),
        lambda pool: pool.numpy(),
        lambda pool: pool.cpu(),
        lambda pool: torch.equal(pool, pool),
    ],
)
def test_the_host_waits_for_what_it_reads(
    read: Callable[[torch.Tensor], object],
    installed: shims.Shims,
    device: SimDevice,
    pool: torch.Tensor,
) -> None:
    pool.fill_(9)
    read(pool)
    with installed.pause_interception():
        assert int(pool.min()) == 9
    device.host_access(label="write", reads=(), writes=(tensor_access(pool),))
    assert device.races == []


def test_what_the_host_copied_is_its_own(
    installed: shims.Shims, device: SimDevice, pool: torch.Tensor
) -> None:
    copied = pool.cpu()
    pool.fill_(9)
    device.synchronize()
    assert int(copied[2, 7, 3]) == 95


def test_rows_of_other_slots_are_no_race(
    installed: shims.Shims, device: SimDevice, pool: torch.Tensor
) -> None:
    module = torch.get_device_module()
    with module.Stream():
        pool.index_copy_(1, torch.tensor([2, 3]), torch.zeros(3, 2, 4, dtype=torch.int64))
    pool[:, torch.tensor([4, 5])] = 1
    device.synchronize()
    assert device.races == []
    with module.Stream():
        pool.index_copy_(1, torch.tensor([2, 5]), torch.zeros(3, 2, 4, dtype=torch.int64))
    pool[:, torch.tensor([4, 5])] = 1
    device.synchronize()
    assert len(device.races) == 1


def test_views_touch_nothing(installed: shims.Shims, device: SimDevice, pool: torch.Tensor) -> None:
    with torch.get_device_module().Stream():
        pool.fill_(1)
    assert pool[1].view(torch.uint8).transpose(0, 1).unsqueeze(0).shape == (1, 32, 8)
    device.synchronize()
    assert device.races == []


def test_copies_of_unequal_shapes_are_refused_at_once(
    installed: shims.Shims, pool: torch.Tensor
) -> None:
    with pytest.raises(RuntimeError, match=r"The size of tensor a \(4\) must match"):
        pool.copy_(torch.zeros(3, 8, 3, dtype=torch.int64))


def test_copies_by_way_of_results_are_reported(
    installed: shims.Shims,
    device: SimDevice,
    pool: torch.Tensor,
    reported: list[dict[str, Any]],
) -> None:
    host = installed.allocate_host((16, 3, 4), torch.int64, pin_memory=True)
    slots, host_slots = torch.tensor([6, 1]), torch.tensor([3, 9])
    staged = torch.stack([pool[layer].index_select(0, slots) for layer in range(3)])
    host.index_copy_(0, host_slots, staged.transpose(0, 1).contiguous())
    (call,) = reported
    assert (call["kernel"], call["backend"]) == ("aten.index_copy_.default", "torch")
    assert call["row_bytes"] == 32
    sources, targets = (
        call[side].address + call[side].rows * call[side].stride for side in ("source", "target")
    )
    assert (sources - pool.data_ptr()).tolist() == [
        (layer * 8 + slot) * 32 for slot in (6, 1) for layer in range(3)
    ]
    assert (targets - host.data_ptr()).tolist() == [
        (slot * 3 + layer) * 32 for slot in (3, 9) for layer in range(3)
    ]
    device.synchronize()
    with installed.pause_interception():
        assert torch.equal(host[9, 2], pool[2, 1])
