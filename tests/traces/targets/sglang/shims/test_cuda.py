"""Stand-ins against the real kernels: both are held to the same expectation, byte for byte."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.traces.targets.sglang.shims import kernel_expectations
from traces.recording.torch_streams import TorchStreams
from traces.targets.sglang import shims
from traces.targets.sglang.shims import kernel_moves
from traces.targets.sglang.shims.kernel_table import KERNELS

pytestmark = pytest.mark.cuda

# Where releases keep the kernels, the newest first.
PLACES = (
    "sgl_kernel.kvcacheio",
    "sglang.kernels.ops.kvcache.hicache",
    "sglang.kernels.ops.mamba.transfer_mamba",
    "sglang.jit_kernel.hicache",
    "sglang.jit_kernel.transfer_mamba",
)


def real_kernel(name: str) -> Callable[..., Any]:
    """Return the real kernel, or skip with the reason why there is none."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    reasons = []
    for place in PLACES:
        try:
            module = importlib.import_module(place)
        except (ImportError, OSError, RuntimeError) as error:
            reasons.append(f"{place}: {error}")
            continue
        if hasattr(module, name):
            function: Callable[..., Any] = getattr(module, name)
            return function
    pytest.skip(f"no {name}: {'; '.join(reasons) or 'not in this release'}")


def make_case(name: str) -> kernel_expectations.Case:
    return kernel_expectations.make_case(
        name,
        on_device=lambda tensor: tensor.cuda(),
        on_host=lambda tensor: tensor.pin_memory(),
        index_device="cuda",
    )


def call(function: Callable[..., Any], case: kernel_expectations.Case) -> None:
    """Call a kernel as a release does, on a stream; skip where it cannot be compiled here.

    Batched copies are refused on the default stream.
    """
    torch.cuda.synchronize()
    try:
        with torch.cuda.stream(torch.cuda.Stream()):
            function(**case.arguments)
    except (RuntimeError, OSError, ImportError) as error:
        if "compil" in str(error) or "nvcc" in str(error) or "ninja" in str(error):
            pytest.skip(f"cannot be compiled here: {error}")
        raise


@pytest.mark.parametrize("name", kernel_expectations.KERNELS)
def test_real_kernel_moves_what_the_stand_in_moves(name: str) -> None:
    real, case = real_kernel(name), make_case(name)
    expected = case.expected()
    call(real, case)
    torch.cuda.synchronize()
    assert all(map(torch.equal, case.tensors(), expected))


@pytest.mark.parametrize("name", kernel_expectations.KERNELS)
def test_observed_kernel_reports_what_it_moves(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, case = real_kernel(name), make_case(name)
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(kernel_moves, "report_copy", lambda **call: calls.append(call))
    expected = case.expected()
    call(shims.observe_kernels({name: real}, TorchStreams().name_of)[name], case)
    torch.cuda.synchronize()
    assert all(map(torch.equal, case.tensors(), expected))
    assert len(calls) == len(case.planes) * len(case.layers)
    starts = {
        (tensor.data_ptr(), tensor.data_ptr() + tensor.numel() * tensor.element_size())
        for tensor in case.tensors()
    }
    for report in calls:
        assert report["backend"] == KERNELS[name].backend
        for side in ("source", "target"):
            rows = report[side].rows.cpu()
            first = report[side].address + int(rows.min()) * report[side].stride
            assert any(start <= first < stop for start, stop in starts)


def test_observe_leaves_other_functions_alone() -> None:
    assert shims.observe_kernels({"print": print}, TorchStreams().name_of)["print"] is print


def test_real_direct_refuses_unequal_rows_in_the_same_words() -> None:
    real = real_kernel("transfer_kv_direct")
    rows = torch.zeros(16, 1, 656, dtype=torch.uint8, device="cuda")
    host = torch.zeros(16, 1, 576, dtype=torch.uint8).pin_memory()
    indices = torch.tensor([1, 2])
    expected = r"The size of tensor a \(576\) must match the size of tensor b \(656\)"
    with pytest.raises(RuntimeError, match=expected):
        real([rows], [host], indices, indices, page_size=1)


def test_real_kernel_leaves_out_negative_indices() -> None:
    real = real_kernel("transfer_kv_per_layer_mla")
    source = torch.ones(16, 1, 64, dtype=torch.uint8, device="cuda")
    target = torch.zeros(16, 1, 64, dtype=torch.uint8, device="cuda")
    indices = torch.tensor([1, -1, 3]).cuda(), torch.tensor([1, 2, -1]).cuda()
    real(source, target, *indices, 64)
    assert target[:, 0, 0].tolist() == [0, 1, *[0] * 14]
