"""Device wrapper for the scripts of scenarios; their tensor operations are not intercepted."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from assembler.device import Accesses, Device, Stream, tensor_access


class ScriptDevice:
    """Launches the script's reads and writes.

    The shims intercept every tensor operation on a pool's memory. An operation that is launched
    here declares its accesses itself, and the script's own operations between synchronisations are
    no device work.
    """

    def __init__(
        self, device: Device, *, pause_interception: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self.pause_interception = pause_interception
        self.torch_device = device.torch_device
        self._device = device

    def to_device(self, indices: torch.Tensor) -> torch.Tensor:
        """Return an index tensor in device memory."""
        with self.pause_interception():
            return self._device.to_device(indices)

    def launch(
        self, operation: Callable[[], object], *, label: str, reads: Accesses, writes: Accesses
    ) -> None:
        """Enqueue an operation on the current stream."""

        def run_uninterrupted() -> None:
            with self.pause_interception():
                operation()

        self._device.launch(run_uninterrupted, label=label, reads=reads, writes=writes)

    def read_on_host(self, tensors: Iterable[torch.Tensor], *, label: str) -> None:
        """Have the host read tensors now."""
        reads = tuple(map(tensor_access, tensors))
        self._device.host_access(label=label, reads=reads, writes=())

    @contextmanager
    def on_new_stream(self, name: str) -> Iterator[None]:
        """Launch the work of the block on a stream that nothing is ordered before."""
        with self._device.on(self._device.new_stream(name)):
            yield

    def new_stream(self, name: str) -> Stream:
        """Return a new stream."""
        return self._device.new_stream(name)

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        """Launch the work of the block on a stream."""
        with self._device.on(stream):
            yield

    def release_stream(self, stream: Stream) -> Any:  # noqa: ANN401 - torch's class, or its shim
        """Return a stream as the release sees it."""
        with self._device.on(stream):
            return torch.get_device_module().current_stream()

    def synchronize(self) -> None:
        """Block until all work is done."""
        self._device.synchronize()
