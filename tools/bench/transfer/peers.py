"""The copy kernels of ``sgl_kernel``, called on our pools as SGLang calls them.

The package is no dependency: where it is installed beside a GPU, its kernels are measured too.
Source of the calls: sglang 0.5.12 ``memory_pool_host.py:405-1000``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import ClassVar

import torch
from typing_extensions import override

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


class PoolRows(ABC):
    """The rows of a pool, as kernels of another package take them.

    Args:
        pools: device pool and host pool; keys and values, or one plane.
        slots: host slots and device slots, where the kernels expect them.

    Attributes:
        package: the package that has the kernels.
        planes: planes of the host pool.
        layers: numbers of the layers.
        page_size: slots of a page.
        is_page_first: whether a row of the host pool has all layers.
        slots: host slots and device slots.
        on_host: the host's rows by plane.
        on_device: rows by plane and layer.
        row_bytes: bytes of a row of one layer.
        addresses: of the first row of each layer on the device, by plane; ``(layer_num,) uint64``.
        host_addresses: likewise of the host's rows.
    """

    package: ClassVar[str]

    def __init__(
        self, pools: tuple[DevicePool, HostKVCache], *, slots: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        pool, host = pools
        self.slots = slots
        self.planes = [plane.name for plane in host.planes]
        self.layers = range(host.layer_num)
        self.page_size = host.page_size
        self.is_page_first = host.layout is HostLayout.PAGE_FIRST
        self.on_host = [host.plane_buffer(plane) for plane in self.planes]
        self.on_device = [
            [pool.plane_buffer(plane=plane, layer=layer) for layer in self.layers]
            for plane in self.planes
        ]
        first = self.on_device[0][0]
        self.row_bytes = first[0].nbytes
        self.addresses = [_addresses(buffers, first.device) for buffers in self.on_device]
        self.host_addresses = [
            _addresses([self.host_layer(buffer, layer) for layer in self.layers], first.device)
            for buffer in self.on_host
        ]

    def host_layer(self, buffer: torch.Tensor, layer: int) -> torch.Tensor:
        """Return the rows of one layer in a buffer of the host pool."""
        return buffer[:, layer] if self.is_page_first else buffer[layer]

    @abstractmethod
    def backup(self) -> None:
        """Launch a backup of all layers."""

    @abstractmethod
    def load(self) -> None:
        """Launch a load, layer by layer."""

    def work(self, direction: Direction) -> Callable[[], None]:
        """Return the launch of a transfer in a direction."""
        return self.backup if direction is Direction.BACKUP else self.load

    def check(self) -> None:
        """Raise ToolError where a backup does not bring the rows of the last layer to the host."""
        host_slots, device_slots = (side.cpu() for side in self.slots)
        layer = self.layers[-1]
        expected = [
            buffers[layer].view(torch.uint8)[device_slots.to(buffers[layer].device)].cpu()
            for buffers in self.on_device
        ]
        self.backup()
        torch.cuda.synchronize()
        for buffer, rows in zip(self.on_host, expected, strict=True):
            found = self.host_layer(buffer, layer)
            if not torch.equal(found[host_slots].view(torch.uint8).view(rows.shape), rows):
                rule = "must back up what the device has"
                raise ToolError(self.package, rule, expected="equal rows", got=f"others in {layer}")


class PeerMoves(PoolRows):
    """Moves of a pool of token rows by the kernels of ``sgl_kernel``.

    Args:
        peer: the kernels.
        pools: device pool and host pool; keys and values, or one plane.
        slots: host slots and device slots, where the backend expects them.
        backend: the backend.
    """

    package = "sgl_kernel"

    def __init__(
        self,
        peer: ModuleType,
        pools: tuple[DevicePool, HostKVCache],
        *,
        slots: tuple[torch.Tensor, torch.Tensor],
        backend: IoBackend,
    ) -> None:
        super().__init__(pools, slots=slots)
        self._peer = peer
        self._backend = backend
        # The kernels' names say whether there are values beside the keys, and both layouts.
        self._family = "" if len(self.planes) > 1 else "_mla"

    @override
    def backup(self) -> None:
        """Launch a backup of all layers."""
        if self._backend is IoBackend.DIRECT:
            self._copy_slices(self.layers, loads=False)
            return
        host_slots, device_slots = self.slots
        targets = self.on_host if self.is_page_first else self.host_addresses
        row_bytes = [self.row_bytes * len(self.layers)] if self.is_page_first else []
        function = f"transfer_kv_all_layer{self._family}{'_lf_pf' if self.is_page_first else ''}"
        getattr(self._peer, function)(
            *_in_pairs(self.addresses, targets),
            *(device_slots, host_slots),
            *(self.row_bytes, *row_bytes, len(self.layers)),
        )

    @override
    def load(self) -> None:
        """Launch a load, layer by layer."""
        for layer in self.layers:
            if self._backend is IoBackend.DIRECT:
                self._copy_slices([layer], loads=True)
            else:
                self._load_layer(layer)

    def _load_layer(self, layer: int) -> None:
        targets = [buffers[layer] for buffers in self.on_device]
        if not self.is_page_first:
            sources = [buffer[layer] for buffer in self.on_host]
            function = getattr(self._peer, f"transfer_kv_per_layer{self._family}")
            function(*_in_pairs(sources, targets), *self.slots, self.row_bytes)
            return
        function = getattr(self._peer, f"transfer_kv_per_layer{self._family}_pf_lf")
        row_bytes = self.row_bytes * len(self.layers)
        function(*_in_pairs(self.on_host, targets), *self.slots, layer, self.row_bytes, row_bytes)

    def _copy_slices(self, layers: Sequence[int], *, loads: bool) -> None:
        inside = [buffers[layer] for buffers in self.on_device for layer in layers]
        outside = [buffer[layer] for buffer in self.on_host for layer in layers]
        sides, slots = [inside, outside], list(self.slots[::-1])
        if loads:
            sides, slots = sides[::-1], slots[::-1]
        self._peer.transfer_kv_direct(*sides, *slots, self.page_size)


def _in_pairs(sources: Sequence[object], targets: Sequence[object]) -> list[object]:
    """Return source and target of the keys, then those of the values."""
    return [side for pair in zip(sources, targets, strict=True) for side in pair]


def _addresses(tensors: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    addresses = [tensor.data_ptr() for tensor in tensors]
    return torch.tensor(addresses, dtype=torch.uint64).to(device)
