import sys
from collections import defaultdict
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from traces.recording.torch_streams import TorchStreams
from traces.targets.sglang.shims import KernelObserver, kernel_moves

KERNEL = "transfer_kv_per_layer_mla"


def transfer_kv_per_layer_mla(src: Any, dst: Any, src_indices: Any, dst_indices: Any, size: int):
    if size == 0:
        raise RuntimeError("refused")
    dst[dst_indices] = src[src_indices]
    return "real"


def allocate(dims: tuple[int, ...], **_: object) -> torch.Tensor:
    return torch.zeros(dims)


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("sgl_kernel.made_up")
    monkeypatch.setattr(transfer_kv_per_layer_mla, "__module__", module.__name__)
    vars(module).update(
        {
            "renamed": transfer_kv_per_layer_mla,
            KERNEL: transfer_kv_per_layer_mla,
            "other": allocate,
            "ALLOC_MEMORY_FUNCS": defaultdict(lambda: allocate, {"npu": allocate}),
        }
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    return module


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(kernel_moves, "report_copy", lambda **call: found.append(call))
    return found


def call(module: ModuleType, *, size: int) -> Any:
    source, target = torch.ones(4, 8), torch.zeros(4, 8)
    return module.renamed(source, target, torch.tensor([1]), torch.tensor([2]), size)


def test_kernels_are_observed_under_every_name(holder: ModuleType, reports: list[Any]) -> None:
    observer = KernelObserver(TorchStreams().name_of)
    observer.bind()
    assert holder.renamed is vars(holder)[KERNEL]
    assert holder.other is allocate
    assert call(holder, size=32) == "real"
    assert [(one["stream"], one["row_bytes"]) for one in reports] == [("default", 32)]
    observer.remove()
    assert holder.renamed is transfer_kv_per_layer_mla


def test_binding_again_observes_once(holder: ModuleType, reports: list[Any]) -> None:
    observer = KernelObserver(TorchStreams().name_of)
    observer.bind()
    observer.bind()
    call(holder, size=32)
    assert len(reports) == 1
    observer.remove()


def test_what_a_kernel_refuses_is_not_reported(holder: ModuleType, reports: list[Any]) -> None:
    observer = KernelObserver(TorchStreams().name_of)
    observer.bind()
    with pytest.raises(RuntimeError, match="refused"):
        call(holder, size=0)
    assert reports == []
    observer.remove()


def test_new_host_memory_is_filled(holder: ModuleType) -> None:
    factories = holder.ALLOC_MEMORY_FUNCS
    observer = KernelObserver(TorchStreams().name_of)
    observer.bind()
    for key in ("npu", "cuda"):
        assert set(factories[key]((4,)).view(torch.uint8).tolist()) == {0xA5}
    observer.remove()
    assert factories["npu"] is allocate


def test_streams_are_named_by_handle() -> None:
    torch_streams = TorchStreams()
    stream: Any = SimpleNamespace(cuda_stream=7)
    assert torch_streams.name_of(stream) == "stream#1"
    torch_streams.name(stream, "read.get")
    assert torch_streams.name_of(stream) == "read.get"
    default: Any = SimpleNamespace(cuda_stream=0)
    assert torch_streams.name_of(default) == "default"
