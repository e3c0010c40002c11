"""Page-locked memory without a driver: allocation for host pools, and tensors that report it."""

from collections.abc import Callable
from typing import Any

import torch

from assembler.device import Device, tensor_access
from traces.simulator.memory import MemoryKind
from traces.targets.sglang.shims.interception import InterceptionPause
from traces.targets.sglang.shims.module_binding import AttributePatches
from traces.targets.sglang.shims.streams import ShimStream
from traces.targets.sglang.shims.tracked_storage import StorageTable

# Rows that were never written show in digests, with the same bytes in every run.
POISON = 0xA5


class _CudaRuntimeShim:
    """Substitute for the CUDA runtime; memory is registered when it is allocated."""

    def cudaHostRegister(self, *_: object) -> int:  # noqa: N802 - the runtime's own name
        return 0

    def cudaHostUnregister(self, *_: object) -> int:  # noqa: N802
        return 0

    def cudaGetErrorString(self, *_: object) -> str:  # noqa: N802
        return "no error"


class PageLockedMemory:
    """Allocates for host pools, and orders reads of device memory by the host."""

    def __init__(self, *, device: Device, buffers: StorageTable, pause: InterceptionPause) -> None:
        self._device = device
        self._buffers = buffers
        self._pause = pause

    def allocate(
        self,
        dims: tuple[int, ...],
        dtype: torch.dtype,
        device: str,
        pin_memory: bool,  # noqa: FBT001 - the release's own signature
        allocator: Any,  # noqa: ANN401 - an object of the release
        **_: object,
    ) -> torch.Tensor:
        """Return memory for a host pool, filled with ``0xA5``; other allocators stay in use."""
        if allocator is None or type(allocator).__name__ == "HostTensorAllocator":
            shape = tuple(int(size) for size in dims)
            tensor = self._device.host_empty(shape, dtype, pin_memory=pin_memory)
        else:
            tensor = allocator.allocate(dims, dtype=dtype, device=device)
        if tensor.numel():
            tensor.view(-1).view(torch.uint8).fill_(POISON)
        kind = MemoryKind.PINNED if pin_memory else MemoryKind.PAGEABLE
        self._buffers.add(tensor, name="host pool", kind=kind, is_pool=True)
        return tensor

    def start(self, changes: AttributePatches) -> None:
        """Patch the tensor methods that depend on a driver."""
        is_pinned, record_stream = torch.Tensor.is_pinned, torch.Tensor.record_stream

        def is_page_locked(tensor: torch.Tensor, device: str | torch.device | None = None) -> bool:
            buffer = self._buffers.find(tensor)
            if buffer is None:
                return bool(is_pinned(tensor) if device is None else is_pinned(tensor, device))
            return buffer.kind is MemoryKind.PINNED

        def hold(tensor: torch.Tensor, stream: Any) -> None:  # noqa: ANN401 - a shim or a stream of torch
            if isinstance(stream, ShimStream):
                stream.stream.hold(tensor)
            else:
                record_stream(tensor, stream)

        for name in ("tolist", "numpy", "cpu"):
            read = self._after_the_stream(getattr(torch.Tensor, name), copies=name == "cpu")
            changes.set(torch.Tensor, name, read)
        changes.set(torch.Tensor, "is_pinned", is_page_locked)
        changes.set(torch.Tensor, "record_stream", hold)
        changes.set(torch.cuda, "cudart", _CudaRuntimeShim)

    def _after_the_stream(self, method: Callable[..., Any], *, copies: bool) -> Callable[..., Any]:
        """Return a method that waits for the current stream before it reads device memory."""

        def read(tensor: torch.Tensor, *arguments: object, **named: object) -> Any:  # noqa: ANN401
            if self._pause.depth or not self._buffers.is_device(tensor):
                return method(tensor, *arguments, **named)
            with self._pause:
                read_only = tensor_access(tensor)
                self._device.launch(
                    lambda: None, label=method.__name__, reads=(read_only,), writes=()
                )
                # Not `synchronize`, which a probe observes: on a GPU this wait is implicit.
                self._device.current_stream()._synchronize()  # noqa: SLF001
                return tensor.clone() if copies else method(tensor, *arguments, **named)

        return read
