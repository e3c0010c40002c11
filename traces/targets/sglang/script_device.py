"""Device wrapper for the scripts of scenarios; their tensor operations are not intercepted."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from assembler.device import Accesses, Device


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

    @contextmanager
    def on_new_stream(self, name: str) -> Iterator[None]:
        """Launch the work of the block on a stream that nothing is ordered before."""
        with self._device.on(self._device.new_stream(name)):
            yield

    def synchronize(self) -> None:
        """Block until all work is done."""
        self._device.synchronize()
