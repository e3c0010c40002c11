"""Runtimes of scenarios: the simulated accelerator with shims, or a GPU with neither."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from typing_extensions import override

from assembler.device import Device, Stream
from traces.recording.probes import EventProbe
from traces.recording.torch_streams import TorchStreams
from traces.simulator import SimDevice
from traces.targets.common import probes
from traces.targets.common.labels import BufferLabel, FoundRace, found_race
from traces.targets.common.runtime import open_device
from traces.targets.sglang import shims
from traces.targets.sglang.discovery import SglangRelease, installed_release


class Runtime:
    """Device and imported release, in the place of a server; nothing is intercepted or tracked."""

    device: Device  # runs the script's own launches
    pool_device: str  # torch device of the release's pools
    release: SglangRelease  # the modules that were found and imported
    order_probes: Callable[[], list[EventProbe]]  # a probe for every way to order work

    def pause_interception(self) -> AbstractContextManager[object]:
        """Return a block in which tensor operations are not intercepted."""
        return nullcontext()

    def watch(self, tensor: torch.Tensor, name: BufferLabel) -> None:
        """Register a buffer of a device pool."""

    def races(self) -> list[FoundRace]:
        """Return each pair of operations that nothing orders, as a record of no step."""
        return []


def is_gpu(device: str) -> bool:
    """Return whether a device, as on the command line, is a GPU."""
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


class SimulatedRuntime(Runtime):
    """Host memory, shims for code without a CPU build, streams of the simulated accelerator."""

    def __init__(self, device: str) -> None:
        self.device = open_device(device)
        self.pool_device = str(self.device.torch_device)
        self._shims = shims.install(self.device)
        self.release = installed_release()
        self._shims.bind()
        self.order_probes = lambda: [*probes.stream_probes(), shims.device_wait_probe()]

    @override
    def pause_interception(self) -> AbstractContextManager[object]:
        return self._shims.pause_interception()

    @override
    def watch(self, tensor: torch.Tensor, name: BufferLabel) -> None:
        self._shims.watch(tensor, name)

    @override
    def races(self) -> list[FoundRace]:
        if not isinstance(self.device, SimDevice):
            return []
        found = {race.record.text: race for race in map(found_race, self.device.races)}
        return [found[text] for text in sorted(found)]


class GpuRuntime(Runtime):
    """A GPU: the release's own kernels, page-locked memory and streams; nothing is replaced.

    A CUDA context does not survive a fork, and page-locked memory is never freed: each scenario
    needs a fresh process that imports the release and runs it.
    """

    pool_device = "cuda"

    def __init__(self, device: str) -> None:
        streams = TorchStreams()
        self.device = _with_named_streams(device, streams)
        torch.cuda.set_device(self.device.torch_device)
        self.release = installed_release()
        own = type(self.device).synchronize
        self.order_probes = lambda: [*streams.order_probes(), *streams.device_probes(own)]
        shims.KernelObserver(streams.name_of).bind()


def _with_named_streams(name: str, streams: TorchStreams) -> Device:
    # Imported late: the module is for machines with CUDA.
    from assembler.device.cuda import CudaDevice

    class _NamingDevice(CudaDevice):
        """Device whose new streams have their names in ``streams``."""

        @override
        def new_stream(self, name: str) -> Stream:
            stream = super().new_stream(name)
            streams.name(stream.torch_stream, name)  # type: ignore[attr-defined]
            return stream

    ordinal = name.partition(":")[2]
    return _NamingDevice(ordinal=int(ordinal) if ordinal else 0)
