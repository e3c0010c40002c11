"""The copy kernels that SGLang compiles on the machine, called on our pools as SGLang calls them.

They are no dependency: where ``sglang`` is installed beside a GPU, with ``apache-tvm-ffi`` and a
CUDA compiler, they are measured too. On a Hopper GPU they move rows by bulk copies (TMA).
Source of the calls: sglang 0.5.23 ``pool_host/mha.py:425-650``, ``pool_host/mla.py:696-1086``.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType

import torch
from typing_extensions import override

from assembler.host_pools.base import DevicePool, HostKVCache
from assembler.names import HostLayout, IoBackend
from tools.bench.transfer.peers import PoolRows

_MODULE = "sglang.kernels.ops.kvcache.hicache"
# Pages of device memory through which a backup to rows of all layers goes.
_STAGED_PAGES = 64

HICACHE_CHOICES = (
    (IoBackend.KERNEL, HostLayout.LAYER_FIRST),
    (IoBackend.KERNEL, HostLayout.PAGE_FIRST),
)


def find_hicache() -> ModuleType | None:
    """Return SGLang's kernels that are compiled on the machine; None where they are not there."""
    for name in ("sglang", "tvm_ffi"):
        if find_spec(name) is None:
            return None
    try:
        return import_module(_MODULE)
    except ImportError:
        return None


def hicache_version() -> str:
    """Return the version of SGLang."""
    try:
        return version("sglang")
    except PackageNotFoundError:
        return "of a source tree"


class HicacheMoves(PoolRows):
    """Moves of a pool of token rows by kernels that SGLang compiles on the machine.

    Args:
        kernels: the module that launches them.
        pools: device pool and host pool; keys and values, or one plane.
        slots: host slots and device slots, in device memory.
    """

    package = "sglang"

    def __init__(
        self,
        kernels: ModuleType,
        pools: tuple[DevicePool, HostKVCache],
        *,
        slots: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        super().__init__(pools, slots=slots)
        self._kernels = kernels
        # The copy engine moves whole pages of a backup through device memory: the host names them.
        self._known_host_slots = slots[0].cpu()
        first = self.on_device[0][0]
        self._row_width = first[0].numel()
        self._family = "" if len(self.planes) > 1 else "_mla"
        self._staging = [
            torch.empty(
                (_STAGED_PAGES * self.page_size, len(self.layers), *buffers[0].shape[1:]),
                dtype=first.dtype,
                device=first.device,
            )
            for buffers in (self.on_device if self.is_page_first else [])
        ]

    @override
    def backup(self) -> None:
        """Launch a backup of all layers."""
        host_slots, device_slots = self.slots
        if self.is_page_first:
            getattr(self._kernels, f"transfer_hicache_all_layer{self._family}_staged_lf_pf")(
                *self.addresses,
                device_slots,
                self._known_host_slots,
                *self._staging,
                *self.on_host,
                page_size=self.page_size,
            )
            return
        strides = {f"{self._cache}_{side}_stride_bytes": self.row_bytes for side in ("src", "dst")}
        getattr(self._kernels, f"transfer_hicache_all_layer{self._family}")(
            *(*self.host_addresses, host_slots),
            *(*self.addresses, device_slots),
            **strides,
            element_size=self.row_bytes,
            page_size=self.page_size,
        )

    @override
    def load(self) -> None:
        """Launch a load, layer by layer."""
        function = getattr(self._kernels, f"transfer_hicache_one_layer{self._family}")
        host_slots, device_slots = self.slots
        for layer in self.layers:
            function(
                *(*(buffers[layer] for buffers in self.on_device), device_slots),
                *(*(self.host_layer(buffer, layer) for buffer in self.on_host), host_slots),
                element_dim=self._row_width,
                page_size=self.page_size,
            )

    @property
    def _cache(self) -> str:
        return "cache" if self._family else "kv_cache"
