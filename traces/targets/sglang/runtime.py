"""What a scenario is played on: the simulated accelerator with stand-ins, or a GPU with neither."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from typing_extensions import override

from assembler.device import Device, Stream
from traces.recording.probes import EventProbe
from traces.simulator import SimDevice
from traces.targets.common import probes
from traces.targets.common.runtime import open_device
from traces.targets.sglang import gpu_streams, shims
from traces.targets.sglang.discovery import SglangRelease, discover_release


class Runtime(Protocol):
    """What there is instead of a server.

    Attributes:
        device: runs what the script itself launches.
        pool_device: where a release is to put its pools, in its own words.
        release: what was found and imported.
    """

    device: Device
    pool_device: str
    release: SglangRelease

    def order_seams(self) -> list[EventProbe]:
        """Return a seam for every way in which the release orders work."""

    def quiet(self) -> AbstractContextManager[object]:
        """Return a block in which tensor operations are nobody's business."""

    def watch(self, tensor: torch.Tensor, name: str) -> None:
        """Make a buffer of a device pool known."""

    def race_messages(self) -> list[str]:
        """Return what was not ordered, a line for each pair of operations, numbers left out."""


def is_gpu(device: str) -> bool:
    """Tell whether a device, as on the command line, is a GPU."""
    return device.partition(":")[0] == "cuda"


def open_runtime(device: str) -> Runtime:
    """Import the release for a device; a process can have one only.

    Args:
        device: ``cuda``, ``cuda:N``, or see :func:`open_device`.

    Raises:
        ImportError: there is no release to import.
        ValueError: there is no such device.
    """
    return GpuRuntime(device) if is_gpu(device) else SimulatedRuntime(device)


class SimulatedRuntime:
    """Host memory, stand-ins for what has no CPU build, streams of the simulated accelerator."""

    pool_device: str

    def __init__(self, device: str) -> None:
        self.device = open_device(device)
        self.pool_device = str(self.device.torch_device)
        self._standins = shims.install(self.device)
        self.release = discover_release()
        self._standins.bind()
        self.order_seams: Callable[[], list[EventProbe]] = probes.stream_probes
        self.quiet: Callable[[], AbstractContextManager[object]] = self._standins.quiet
        self.watch = self._standins.watch

    def race_messages(self) -> list[str]:
        """Return what was not ordered, a line for each pair of operations, numbers left out."""
        if not isinstance(self.device, SimDevice):
            return []
        found = {
            f"race: {race.first.label} on {race.first.timeline.kind} and "
            f"{race.second.label} on {race.second.timeline.kind}"
            for race in self.device.races
        }
        return sorted(found)


class GpuRuntime:
    """A GPU: the release's own kernels, page-locked memory and streams; nothing is replaced.

    A context of CUDA does not survive a fork, and page-locked memory is never given back: import
    and play in a process that has done neither before, one scenario each.
    """

    pool_device = "cuda"

    def __init__(self, device: str) -> None:
        self.device: Device = _with_named_streams(device)
        torch.cuda.set_device(self.device.torch_device)
        self.release = discover_release()
        self._observer = shims.KernelObserver()
        self._observer.bind()

    def order_seams(self) -> list[EventProbe]:
        """Return a seam for every way in which the release orders work."""
        return gpu_streams.order_seams()

    def quiet(self) -> AbstractContextManager[object]:
        """Return a block that changes nothing: nobody looks at tensor operations here."""
        return nullcontext()

    def watch(self, tensor: torch.Tensor, name: str) -> None:
        """Do nothing: a GPU knows its memory."""

    def race_messages(self) -> list[str]:
        """Return nothing: a GPU finds no races."""
        return []


def _with_named_streams(name: str) -> Device:
    # Only now: it is about to use CUDA.
    from assembler.device.cuda import CudaDevice

    class _Named(CudaDevice):
        """Streams of the script are known by their names to whoever reports a stream."""

        @override
        def new_stream(self, name: str) -> Stream:
            stream = super().new_stream(name)
            gpu_streams.name_stream(stream.torch_stream, name)  # type: ignore[attr-defined]
            return stream

    ordinal = name.partition(":")[2]
    return _Named(ordinal=int(ordinal) if ordinal else 0)
