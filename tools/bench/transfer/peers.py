"""The copy kernels of ``sgl_kernel``, called on our pools as SGLang calls them.

The package is no dependency: where it is installed beside a GPU, its kernels are measured too.
Source of the calls: sglang 0.5.12 ``memory_pool_host.py:405-1000``.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch

from assembler.host_pools.base import DevicePool, HostKVCache
from assembler.names import Direction, HostLayout, IoBackend
from tools.errors import ToolError

_PACKAGE = "sgl_kernel"

# What its kernels move: token rows by layer or by token, and slices where rows of a layer touch.
PEER_CHOICES = (
    (IoBackend.KERNEL, HostLayout.LAYER_FIRST),
    (IoBackend.KERNEL, HostLayout.PAGE_FIRST),
    (IoBackend.DIRECT, HostLayout.LAYER_FIRST),
)


def find_peer() -> ModuleType | None:
    """Return the copy kernels of ``sgl_kernel``; None where they are not installed."""
    if find_spec(_PACKAGE) is None:
        return None
    return import_module(f"{_PACKAGE}.kvcacheio")


def peer_version() -> str:
    """Return the package's version."""
    return str(import_module(_PACKAGE).__version__)


class PeerMoves:
    """Moves of a pool of token rows by the package's kernels.

    Args:
        peer: the kernels.
        pools: device pool and host pool; keys and values, or one plane.
        slots: host slots and device slots, where the backend expects them.
        backend: the backend.
    """

    def __init__(
        self,
        peer: ModuleType,
        pools: tuple[DevicePool, HostKVCache],
        *,
        slots: tuple[torch.Tensor, torch.Tensor],
        backend: IoBackend,
    ) -> None:
        pool, self._host = pools
        self._peer = peer
        self._slots = slots
        self._backend = backend
        planes = self._host.planes
        self._on_host = [self._host.plane_buffer(plane.name) for plane in planes]
        self._layers = range(self._host.layer_num)
        self._on_device = [
            [pool.plane_buffer(plane=plane.name, layer=layer) for layer in self._layers]
            for plane in planes
        ]
        first = self._on_device[0][0]
        self._item_bytes = first[0].nbytes
        self._addresses = [_addresses(buffers, first.device) for buffers in self._on_device]
        self._host_addresses = [_addresses(list(buffer), first.device) for buffer in self._on_host]
        # The kernels' names say whether there are values beside the keys, and both layouts.
        self._family = "" if len(planes) > 1 else "_mla"
        self._pages = self._host.layout is HostLayout.PAGE_FIRST

    def work(self, direction: Direction) -> Callable[[], None]:
        """Return the launch of a transfer in a direction."""
        return self.backup if direction is Direction.BACKUP else self.load

    def backup(self) -> None:
        """Launch a backup of all layers."""
        if self._backend is IoBackend.DIRECT:
            self._copy_slices(self._layers, loads=False)
            return
        host_slots, device_slots = self._slots
        sources = self._addresses
        targets = self._on_host if self._pages else self._host_addresses
        sizes = [self._item_bytes, *([self._item_bytes * len(self._layers)] if self._pages else [])]
        function = f"transfer_kv_all_layer{self._family}{'_lf_pf' if self._pages else ''}"
        getattr(self._peer, function)(
            *_in_pairs(sources, targets), device_slots, host_slots, *sizes, len(self._layers)
        )

    def load(self) -> None:
        """Launch a load, layer by layer."""
        for layer in self._layers:
            if self._backend is IoBackend.DIRECT:
                self._copy_slices([layer], loads=True)
            else:
                self._load_layer(layer)

    def _load_layer(self, layer: int) -> None:
        targets = [buffers[layer] for buffers in self._on_device]
        if not self._pages:
            sources = [buffer[layer] for buffer in self._on_host]
            function = getattr(self._peer, f"transfer_kv_per_layer{self._family}")
            function(*_in_pairs(sources, targets), *self._slots, self._item_bytes)
            return
        function = getattr(self._peer, f"transfer_kv_per_layer{self._family}_pf_lf")
        row_bytes = self._item_bytes * len(self._layers)
        function(
            *_in_pairs(self._on_host, targets), *self._slots, layer, self._item_bytes, row_bytes
        )

    def _copy_slices(self, layers: Sequence[int], *, loads: bool) -> None:
        inside = [buffers[layer] for buffers in self._on_device for layer in layers]
        outside = [buffer[layer] for buffer in self._on_host for layer in layers]
        sides, slots = [inside, outside], list(self._slots[::-1])
        if loads:
            sides, slots = sides[::-1], slots[::-1]
        self._peer.transfer_kv_direct(*sides, *slots, self._host.page_size)

    def check(self) -> None:
        """Raise ToolError where a backup does not bring the rows of the last layer to the host."""
        host_slots, device_slots = (side.cpu() for side in self._slots)
        layer = self._layers[-1]
        expected = [
            buffers[layer].view(torch.uint8)[device_slots.to(buffers[layer].device)].cpu()
            for buffers in self._on_device
        ]
        self.backup()
        torch.cuda.synchronize()
        for buffer, rows in zip(self._on_host, expected, strict=True):
            found = buffer[:, layer] if self._pages else buffer[layer]
            if not torch.equal(found[host_slots].view(torch.uint8).view(rows.shape), rows):
                rule = "must back up what the device has"
                raise ToolError(_PACKAGE, rule, expected="equal rows", got=f"others in {layer}")


def _in_pairs(sources: Sequence[object], targets: Sequence[object]) -> list[object]:
    """Return source and target of the keys, then those of the values."""
    return [side for pair in zip(sources, targets, strict=True) for side in pair]


def _addresses(tensors: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    addresses = [tensor.data_ptr() for tensor in tensors]
    return torch.tensor(addresses, dtype=torch.uint64).to(device)
