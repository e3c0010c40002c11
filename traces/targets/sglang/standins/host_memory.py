"""Page-locked memory without a driver: allocation for host pools, and what it says of itself."""

from typing import Any

import torch

from assembler.accelerator import Device
from assembler.accelerator.sim.memory import MemoryKind
from traces.targets.sglang.standins.binding import Changes
from traces.targets.sglang.standins.buffers import Buffers
from traces.targets.sglang.standins.streams import SimStream

# What nobody wrote should be visible, and the same each time.
POISON = 0xA5


class _CudaRuntime:
    """Registers and unregisters without doing either: the allocation did."""

    def cudaHostRegister(self, *_: object) -> int:  # noqa: N802 - the runtime's own name
        return 0

    def cudaHostUnregister(self, *_: object) -> int:  # noqa: N802
        return 0

    def cudaGetErrorString(self, *_: object) -> str:  # noqa: N802
        return "no error"


class HostMemory:
    """Allocates for host pools.

    Args:
        device: keeps the memory.
        buffers: are told of it.
    """

    def __init__(self, *, device: Device, buffers: Buffers) -> None:
        self._device = device
        self._buffers = buffers

    def allocate(
        self,
        dims: tuple[int, ...],
        dtype: torch.dtype,
        device: str,
        pin_memory: bool,  # noqa: FBT001 - the release's own signature
        allocator: Any,  # noqa: ANN401 - an object of the release
        **_: object,
    ) -> torch.Tensor:
        """Return memory for a host pool, filled with ``0xA5``.

        Args:
            dims: shape of the tensor.
            dtype: of its elements.
            device: where it is; the host.
            pin_memory: whether it counts as page-locked.
            allocator: the release's; allocates itself unless it is the plain one.
        """
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

    def start(self, changes: Changes) -> None:
        """Make tensors answer as on a machine with a driver."""
        is_pinned, record_stream = torch.Tensor.is_pinned, torch.Tensor.record_stream

        def answer(tensor: torch.Tensor, *arguments: object, **named: object) -> bool:
            buffer = self._buffers.find(tensor)
            if buffer is None:
                return bool(is_pinned(tensor, *arguments, **named))
            return buffer.kind is MemoryKind.PINNED

        def hold(tensor: torch.Tensor, stream: Any) -> None:  # noqa: ANN401 - anybody's stream
            if isinstance(stream, SimStream):
                stream.stream.hold(tensor)
            else:
                record_stream(tensor, stream)

        changes.set(torch.Tensor, "is_pinned", answer)
        changes.set(torch.Tensor, "record_stream", hold)
        changes.set(torch.cuda, "cudart", _CudaRuntime)
