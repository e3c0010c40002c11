"""Shims for code without a CPU build, so that a release's real code runs without a GPU.

Replaced: the transfer kernels, by copies of the same bytes; page-locked allocation; streams, events
and the order of tensor operations on pools' memory, by the simulated accelerator; the schemas of
torchvision's operators; the package triton; the size of host memory; ``torch.compile``, by one that
compiles a function when it is called. :func:`install` replaces all of it and :meth:`Shims.remove`
restores it. On a GPU nothing is replaced: :class:`KernelObserver` wraps the real kernels so that
they report the bytes they move.

Limits:

* Tensor operations are intercepted only on the thread that called :func:`install`.
* ``to(device)`` copies nothing where both sides are host memory. Host slots of the ``kernel``
  backend are read when the kernel is launched, as if they had been copied then; device slots when
  it runs.
* A ``direct`` copy with rows outside a tensor raises; torch would shorten the slice.
* Operations that put rows into a pool (``index_copy_``) compare shapes when they run.
* The simulation has no time: the elapsed time between events is 0.
"""

from contextlib import ExitStack

import torch

from assembler.device import Device
from traces.simulator.memory import MemoryKind
from traces.targets.sglang.shims import module_binding, triton_package
from traces.targets.sglang.shims.compilation import put_off_compilation
from traces.targets.sglang.shims.host_memory import PageLockedMemory
from traces.targets.sglang.shims.interception import InterceptionPause
from traces.targets.sglang.shims.kernel_moves import report_copy
from traces.targets.sglang.shims.kernel_observer import KernelObserver, observe_kernels
from traces.targets.sglang.shims.kernel_runner import KernelRunner
from traces.targets.sglang.shims.kernel_table import KERNELS
from traces.targets.sglang.shims.memory_limits import hide_memory_limits
from traces.targets.sglang.shims.streams import StreamShims, device_wait_probe
from traces.targets.sglang.shims.tensor_operations import StreamOperations
from traces.targets.sglang.shims.tracked_storage import StorageTable

__all__ = [
    "KERNELS",
    "KernelObserver",
    "Shims",
    "device_wait_probe",
    "install",
    "observe_kernels",
    "report_copy",
]


class Shims:
    """Shims of one process; ``functions`` has the shim of each kernel by the kernel's name."""

    def __init__(self, device: Device) -> None:
        self.device = device
        pause = InterceptionPause()
        self._buffers = StorageTable(device)
        self._host_memory = PageLockedMemory(device=device, buffers=self._buffers, pause=pause)
        runner = KernelRunner(device=device, buffers=self._buffers, pause=pause)
        self.functions = {name: runner.shim_for(kernel) for name, kernel in KERNELS.items()}
        self._streams = StreamShims(device)
        self.device_module = self._streams.module()
        self._operations = StreamOperations(device=device, buffers=self._buffers, pause=pause)
        self._pause = pause
        self._changes = module_binding.AttributePatches()
        self._binder = module_binding.ShimBinder(
            functions=self.functions,
            allocate=self._host_memory.allocate,
            synchronize=self._streams.synchronize,
            changes=self._changes,
        )

    def bind(self) -> list[str]:
        """Replace the functions that imported modules of the release name.

        Return the attributes replaced so far, as ``module.name``. Modules that are imported after
        :func:`install` are bound by their import.
        """
        self._binder.bind_imported()
        return list(self._binder.bound)

    def watch(self, tensor: torch.Tensor, name: str) -> None:
        """Register a pool's buffer: as device memory, unless a host pool allocated it."""
        known = self._buffers.find(tensor)
        kind = MemoryKind.DEVICE if known is None or not known.is_pool else known.kind
        self._buffers.add(tensor, name=name, kind=kind, is_pool=True)

    def allocate_host(
        self, shape: tuple[int, ...], dtype: torch.dtype, *, pin_memory: bool
    ) -> torch.Tensor:
        """Return memory as for a host pool, filled with ``0xA5``."""
        return self._host_memory.allocate(shape, dtype, "cpu", pin_memory, None)

    def pause_interception(self) -> InterceptionPause:
        """Return a block in which tensor operations are not intercepted: they run at once."""
        return self._pause

    def remove(self) -> None:
        """Restore everything. Modules imported meanwhile keep the names that they copied."""
        self._changes.undo()

    def start(self) -> None:
        """Install all shims."""
        changes = self._changes
        changes.on_undo(triton_package.install())
        put_off_compilation(changes)
        hide_memory_limits(changes)
        module_binding.add_vision_operators(changes)
        compiled = {kernel.name for kernel in KERNELS.values() if kernel.is_compiled}
        own = {name: run for name, run in self.functions.items() if name not in compiled}
        module_binding.add_kernel_package(own, changes)
        for module in (torch.cuda, torch.cpu):
            for name, value in self._streams.functions().items():
                changes.set(module, name, value)
        module_binding.bind_when_imported(self._binder, changes)
        changes.set(torch, "get_device_module", lambda *_: self.device_module)
        self._host_memory.start(changes)
        watching = ExitStack()
        watching.enter_context(self._operations)
        changes.on_undo(watching.close)


def install(device: Device) -> Shims:
    """Install shims before a release is imported; call :meth:`Shims.bind` after the import."""
    installed = Shims(device)
    installed.start()
    return installed
