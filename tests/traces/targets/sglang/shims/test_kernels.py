import ctypes
from typing import Any

import pytest
import torch

from tests.traces.targets.sglang.shims import kernel_expectations
from traces.simulator import SimDevice
from traces.targets.sglang import shims
from traces.targets.sglang.shims import kernel_moves
from traces.targets.sglang.shims.kernel_table import KERNELS


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(kernel_moves, "report_copy", lambda **call: calls.append(call))
    return calls


def on_host(installed: shims.Shims, tensor: torch.Tensor) -> torch.Tensor:
    buffer = installed.allocate_host(tuple(tensor.shape), tensor.dtype, pin_memory=True)
    with installed.pause_interception():
        return buffer.copy_(tensor)


def make_case(name: str, installed: shims.Shims) -> kernel_expectations.Case:
    def on_device(tensor: torch.Tensor) -> torch.Tensor:
        installed.watch(tensor, "device pool")
        return tensor

    return kernel_expectations.make_case(
        name,
        on_device=on_device,
        on_host=lambda tensor: on_host(installed, tensor),
        index_device="cpu",
    )


def test_every_kernel_has_a_case() -> None:
    assert set(kernel_expectations.KERNELS) == set(KERNELS)


@pytest.mark.parametrize("name", kernel_expectations.KERNELS)
def test_moves_what_the_layouts_say(name: str, device: SimDevice, installed: shims.Shims) -> None:
    case = make_case(name, installed)
    with installed.pause_interception():
        expected = case.expected()
        before = [tensor.clone() for tensor in case.tensors()]

    installed.functions[name](**case.arguments)

    with installed.pause_interception():
        assert all(map(torch.equal, case.tensors(), before))
    device.synchronize()
    with installed.pause_interception():
        assert all(map(torch.equal, case.tensors(), expected))
    assert device.races == []


@pytest.mark.parametrize("name", kernel_expectations.KERNELS)
def test_reports_the_bytes_that_change(
    name: str,
    device: SimDevice,
    installed: shims.Shims,
    reported: list[dict[str, Any]],
) -> None:
    case = make_case(name, installed)
    layer_num = len(case.layers)

    installed.functions[name](**case.arguments)

    assert len(reported) == len(case.planes) * layer_num
    with installed.pause_interception():
        expected = case.expected()
        for call in reported:
            assert call["kernel"] == name
            assert call["backend"] == ("direct" if "direct" in name else "kernel")
            assert call["stream"] == "default"
            moved_bytes = call["source"].rows.numel() * call["row_bytes"]
            assert (
                moved_bytes == len(kernel_expectations.DEVICE_SLOTS) * kernel_expectations.ROW_BYTES
            )
            _carry_out(call)
        assert all(map(torch.equal, case.tensors(), expected))


def _carry_out(call: dict[str, Any]) -> None:
    sources, targets = (
        (call[side].address + call[side].rows * call[side].stride).tolist()
        for side in ("source", "target")
    )
    for source, target in zip(sources, targets, strict=True):
        ctypes.memmove(target, source, call["row_bytes"])


def _rows(installed: shims.Shims, *, width: int, pin_memory: bool) -> torch.Tensor:
    return installed.allocate_host((16, 1, width), torch.uint8, pin_memory=pin_memory)


def test_kernel_leaves_out_negative_indices(device: SimDevice, installed: shims.Shims) -> None:
    source, target = torch.ones(16, 1, 64, dtype=torch.uint8), torch.zeros(16, 1, 64).byte()
    installed.watch(source, "source")
    installed.watch(target, "target")
    installed.functions["transfer_kv_per_layer_mla"](
        source, target, torch.tensor([1, -1, 3]), torch.tensor([1, 2, -1]), 64
    )
    device.synchronize()
    with installed.pause_interception():
        assert target[:, 0, 0].tolist() == [0, 1, *[0] * 14]


def test_kernel_of_wrong_row_width_takes_parts_of_other_rows(
    device: SimDevice, installed: shims.Shims
) -> None:
    source = torch.arange(8, dtype=torch.uint8).repeat_interleave(656).view(8, 1, 656)
    target = installed.allocate_host((8, 1, 576), torch.uint8, pin_memory=True)
    installed.watch(source, "source")
    indices = torch.tensor([7])
    installed.functions["transfer_kv_per_layer_mla"](source, target, indices, indices, 576)
    device.synchronize()
    with installed.pause_interception():
        assert target[7, 0].unique().tolist() == [6, 7]
        assert target[6, 0].unique().tolist() == [0xA5]


@pytest.mark.parametrize(("pin_memory", "refused"), [(False, True), (True, False)])
def test_kernel_reaches_page_locked_memory_only(
    pin_memory: bool, refused: bool, device: SimDevice, installed: shims.Shims
) -> None:
    source = torch.ones(16, 1, 64, dtype=torch.uint8)
    target = _rows(installed, width=64, pin_memory=pin_memory)
    assert target.is_pinned() is pin_memory
    arguments = (source, target, torch.tensor([1]), torch.tensor([2]), 64)
    if refused:
        with pytest.raises(RuntimeError, match="illegal memory access"):
            installed.functions["transfer_kv_per_layer_mla"](*arguments)
    else:
        installed.functions["transfer_kv_per_layer_mla"](*arguments)
        device.synchronize()


def test_kernel_refuses_rows_outside_memory(device: SimDevice, installed: shims.Shims) -> None:
    source = torch.ones(16, 1, 64, dtype=torch.uint8)
    target = _rows(installed, width=64, pin_memory=True)
    installed.functions["transfer_kv_per_layer_mla"](
        source, target, torch.tensor([16]), torch.tensor([2]), 64
    )
    with pytest.raises(RuntimeError, match="illegal memory access"):
        device.synchronize()


def test_direct_compares_row_widths_in_torch_words(installed: shims.Shims) -> None:
    device_rows = torch.zeros(16, 1, 656, dtype=torch.uint8)
    host_rows = _rows(installed, width=576, pin_memory=True)
    indices = torch.tensor([1, 2])
    installed.watch(device_rows, "device pool")
    expected = r"The size of tensor a \(576\) must match the size of tensor b \(656\) at non-sing"
    with pytest.raises(RuntimeError, match=expected):
        installed.functions["transfer_kv_direct"](
            [device_rows], [host_rows], indices, indices, page_size=1
        )
    expected = r"The size of tensor a \(656\) must match the size of tensor b \(576\) at non-sing"
    with pytest.raises(RuntimeError, match=expected):
        installed.functions["transfer_kv_direct"](
            [host_rows], [device_rows], indices, indices, page_size=1
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.tensor([1], dtype=torch.int32), torch.tensor([1]), 64), "Source indices must be"),
        ((torch.tensor([1]), torch.tensor([1, 2]), 64), "must have the same length"),
        ((torch.tensor([1]), torch.tensor([1]), 60), "must be divisible by 8"),
    ],
)
def test_kernel_refuses_what_the_real_one_refuses(
    arguments: tuple[Any, ...], message: str, installed: shims.Shims
) -> None:
    rows = torch.zeros(4, 1, 64, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match=message):
        installed.functions["transfer_kv_per_layer_mla"](rows, rows.clone(), *arguments)


def test_pages_of_unequal_width_are_copied_by_the_first_device_layers_width(
    device: SimDevice, installed: shims.Shims
) -> None:
    rows = torch.arange(8 * 6, dtype=torch.uint8).view(8, 1, 6).clone()
    host = torch.zeros(3, 2, 2, 1, 4, dtype=torch.uint8)
    slots = torch.tensor([2, 3])
    installed.functions["transfer_kv_all_layer_direct_lf_pf"](
        [rows, rows + 100], [host], slots, torch.tensor([0, 1]), page_size=2
    )
    device.synchronize()
    # Two rows of six bytes go where two of four have room; the next layer overwrites the rest.
    assert host.view(-1)[:8].tolist() == list(range(12, 20))
    assert host.view(-1)[8:20].tolist() == list(range(112, 124))
    assert not host.view(-1)[20:].any()
