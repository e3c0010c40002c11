"""What a scenario is played on: the simulated accelerator with stand-ins, or a GPU with neither."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from typing_extensions import override

from assembler.accelerator import Device, Stream
from assembler.accelerator.sim import SimDevice
from traces.seams import EventSeam
from traces.targets import accelerator_order
from traces.targets.native_device import open_device
from traces.targets.sglang import gpu_streams, standins
from traces.targets.sglang.discovery import Release, discover


class Surroundings(Protocol):
    """What there is instead of a server.

    Attributes:
        device: runs what the script itself launches.
        pool_device: where a release is to put its pools, in its own words.
        release: what was found and imported.
    """

    device: Device
    pool_device: str
    release: Release

    def order_seams(self) -> list[EventSeam]:
        """Return a seam for every way in which the release orders work."""

    def quiet(self) -> AbstractContextManager[object]:
        """Return a block in which tensor operations are nobody's business."""

    def watch(self, tensor: torch.Tensor, name: str) -> None:
        """Make a buffer of a device pool known."""

    def findings(self) -> list[str]:
        """Return what was not ordered, a line for each pair of operations, numbers left out."""


def is_gpu(device: str) -> bool:
    """Tell whether a device, as on the command line, is a GPU."""
    return device.partition(":")[0] == "cuda"


def surround(device: str) -> Surroundings:
    """Import the release for a device; a process can have one only.

    Args:
        device: ``cuda``, ``cuda:N``, or see :func:`open_device`.

    Raises:
        ImportError: there is no release to import.
        ValueError: there is no such device.
    """
    return OnGpu(device) if is_gpu(device) else Simulated(device)


class Simulated:
    """Host memory, stand-ins for what has no CPU build, streams of the simulated accelerator."""

    pool_device: str

    def __init__(self, device: str) -> None:
        self.device = open_device(device)
        self.pool_device = str(self.device.torch_device)
        self._standins = standins.install(self.device)
        self.release = discover()
        self._standins.bind()
        self.order_seams: Callable[[], list[EventSeam]] = accelerator_order.order_seams
        self.quiet: Callable[[], AbstractContextManager[object]] = self._standins.quiet
        self.watch = self._standins.watch

    def findings(self) -> list[str]:
        """Return what was not ordered, a line for each pair of operations, numbers left out."""
        if not isinstance(self.device, SimDevice):
            return []
        found = {
            f"race: {race.first.label} on {race.first.party.kind} and "
            f"{race.second.label} on {race.second.party.kind}"
            for race in self.device.races
        }
        return sorted(found)


class OnGpu:
    """A GPU: the release's own kernels, page-locked memory and streams; nothing is replaced.

    A context of CUDA does not survive a fork, and page-locked memory is never given back: import
    and play in a process that has done neither before, one scenario each.
    """

    pool_device = "cuda"

    def __init__(self, device: str) -> None:
        self.device: Device = _with_named_streams(device)
        torch.cuda.set_device(self.device.torch_device)
        self.release = discover()
        self._observer = standins.Observer()
        self._observer.bind()

    def order_seams(self) -> list[EventSeam]:
        """Return a seam for every way in which the release orders work."""
        return gpu_streams.order_seams()

    def quiet(self) -> AbstractContextManager[object]:
        """Return a block that changes nothing: nobody looks at tensor operations here."""
        return nullcontext()

    def watch(self, tensor: torch.Tensor, name: str) -> None:
        """Do nothing: a GPU knows its memory."""

    def findings(self) -> list[str]:
        """Return nothing: a GPU finds no races."""
        return []


def _with_named_streams(name: str) -> Device:
    # Only now: it is about to use CUDA.
    from assembler.accelerator.cuda import CudaDevice

    class _Named(CudaDevice):
        """Streams of the script are known by their names to whoever reports a stream."""

        @override
        def new_stream(self, name: str) -> Stream:
            stream = super().new_stream(name)
            gpu_streams.name_stream(stream.torch_stream, name)  # type: ignore[attr-defined]
            return stream

    ordinal = name.partition(":")[2]
    return _Named(ordinal=int(ordinal) if ordinal else 0)
