"""The device as the script itself works on it: its own tensor operations are nobody's business."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from assembler.device import Device, MemoryAccess


class ScriptDevice:
    """Launches the script's reads and writes.

    The stand-ins look at every tensor operation on a pool's memory. What is launched here says by
    itself what it touches, and what the script does between synchronisations is no device work.

    Args:
        device: where the release's streams are.
        quiet: returns a block in which tensor operations are not looked at.
    """

    def __init__(
        self, device: Device, *, quiet: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self.quiet = quiet
        self.torch_device = device.torch_device
        self._device = device

    def to_device(self, indices: torch.Tensor) -> torch.Tensor:
        """Return an index tensor in device memory."""
        with self.quiet():
            return self._device.to_device(indices)

    def launch(
        self,
        operation: Callable[[], None],
        *,
        label: str,
        reads: tuple[MemoryAccess, ...],
        writes: tuple[MemoryAccess, ...],
    ) -> None:
        """Enqueue an operation on the current stream."""

        def quietly() -> None:
            with self.quiet():
                operation()

        self._device.launch(quietly, label=label, reads=reads, writes=writes)

    @contextmanager
    def on_new_stream(self, name: str) -> Iterator[None]:
        """Launch the work of the block on a stream that nothing is ordered before."""
        with self._device.on(self._device.new_stream(name)):
            yield

    def synchronize(self) -> None:
        """Block until all work is done."""
        self._device.synchronize()
