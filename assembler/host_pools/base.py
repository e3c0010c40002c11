"""Base of the host pools: slots, size, and moving rows layer by layer and plane by plane."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar, Protocol, assert_never

import torch

from assembler.device.base import Device
from assembler.errors import PoolError, TransferError
from assembler.free_pages import FreePageList
from assembler.geometry import PlaneGeometry, PoolGeometry
from assembler.host_pools.expected_load import ExpectedLoad
from assembler.host_pools.known_rows import KnownRows
from assembler.host_pools.memory import HostMemory, HostPoolArguments
from assembler.host_pools.sizing import bytes_per_slot, check_host_memory
from assembler.names import Direction, HostLayout, IoBackend, PoolName
from assembler.transfer.engine import Submission, move, moved_ahead
from assembler.transfer.layer_rows import LayerRows
from assembler.transfer.rows import RowMap
from assembler.transfer.windows import device_window, host_window


class DevicePool(Protocol):
    """The role of a device pool that a host pool mirrors.

    Attributes:
        size: usable slots.
        page_size: slots in a page.
        layer_num: layers in the pool.
        store_dtype: type the elements are stored as.
        device: the accelerator that holds the buffers.
    """

    size: int
    page_size: int
    layer_num: int
    store_dtype: torch.dtype
    device: Device

    @property
    def use_mla(self) -> bool:
        """True where keys and values share one latent row."""
        ...

    @property
    def host_row_width(self) -> int | None:
        """Elements of a latent row, for a host pool that cannot compute them; None elsewhere."""
        ...

    def plane_buffer(self, *, plane: str, layer: int) -> torch.Tensor:
        """Return the rows of a plane in one layer, by index in the pool."""
        ...

    def layer_buffers(self, plane: str) -> Sequence[torch.Tensor]:
        """Return the rows of a plane in every layer, in order."""
        ...

    def make_host_pool(
        self, arguments: HostPoolArguments, *, override_kv_cache_dim: int | None
    ) -> "HostKVCache":
        """Build the host mirror of the pool's own rows.

        Args:
            arguments: size, layout and memory of the host pool.
            override_kv_cache_dim: elements of a latent row; None where rank and rotary part are
                all of it, and for rows that are not latent.

        Raises:
            AssemblyError: the pool has no width to override.
            PoolError: the layout is unknown to the host pool, or it would not outgrow the device.
            OutOfHostMemoryError: the host pool does not fit.
        """
        ...


class HostKVCache(ABC):
    """Mirror of one device pool in host memory.

    Attributes:
        layouts: layouts that each backend can move in this class of pool.
        device_pool: the mirrored pool.
        device: the accelerator that can reach the buffers.
        page_size: slots in a page.
        page_num: pages.
        size: slots, ``page_num * page_size``; slot 0 is an ordinary one.
        layout: order of the axes of the buffers.
        pin_memory: whether the buffers are page-locked.
        allocator_type: name of the memory source. Only the plain one is built in: the field takes
            it too for any name it does not know.
        layer_num: layers in the pool.
        planes: the kinds of row, in the order in which they are moved.
        slots_per_row: slots that one row serves.
        size_per_token: bytes of a slot over all planes and layers.

    Raises:
        PoolError: unknown layout, or one that this class of pool cannot have.
        OutOfHostMemoryError: the buffers do not fit; nothing is allocated then.

    Source: sglang 0.5.12 ``memory_pool_host.py:155-288``.
    """

    layouts: ClassVar[dict[IoBackend, tuple[HostLayout, ...]]]

    def __init__(
        self,
        *,
        device_pool: DevicePool,
        planes: tuple[PlaneGeometry, ...],
        slots_per_row: int,
        page_num: int,
        page_size: int,
        memory: HostMemory,
    ) -> None:
        self.device_pool = device_pool
        self.device = memory.device
        self.page_size = page_size
        self.page_num = page_num
        self.size = page_num * page_size
        self.layout = self._checked_layout(memory.layout)
        self.pin_memory = memory.pin_memory
        self.allocator_type = memory.allocator_type
        self.layer_num = device_pool.layer_num
        self.planes = planes
        self.slots_per_row = slots_per_row
        self.size_per_token = bytes_per_slot(planes, slots_per_row, self.layer_num)
        # Before a subclass allocates: pinning pages that the host lacks makes the kernel swap or
        # kill instead of raising.
        check_host_memory(
            subject=type(self).__name__, requested_bytes=self.size * self.size_per_token
        )
        names = tuple(plane.name for plane in planes)
        self._known_rows = KnownRows(names)
        self._expected_load: ExpectedLoad | None = None
        self._free_page_list = FreePageList(
            subject=type(self).__name__, first_page=0, page_num=page_num, page_size=page_size
        )

    @property
    @abstractmethod
    def row_map(self) -> RowMap:
        """Translation of slots into rows of this layout."""

    @abstractmethod
    def plane_buffer(self, plane: str) -> torch.Tensor:
        """Return the contiguous buffer that holds all layers of a plane."""

    def page_blocks(self, slot: int) -> tuple[torch.Tensor, ...]:
        """Return the memory of the page that begins at a slot: contiguous views, plane by plane."""
        row, row_num = slot // self.slots_per_row, self.page_size // self.slots_per_row
        buffers = [self.plane_buffer(plane.name) for plane in self.planes]
        return tuple(block for buffer in buffers for block in self._blocks(buffer, row, row_num))

    def geometry(self, pool: PoolName) -> PoolGeometry:
        """Return the rows of this pool, by its own numbers, under the name ``pool``."""
        return PoolGeometry(
            pool=pool,
            planes=self.planes,
            slots_per_row=self.slots_per_row,
            layer_num=self.layer_num,
        )

    def alloc(self, need_size: int) -> torch.Tensor | None:
        """Return slots, or None when there are too few.

        Shape: ``(need_size,) int64`` in host memory; whole pages.

        Raises:
            PoolError: ``need_size`` is not whole pages.
        """
        return self._free_page_list.take(need_size)

    def free(self, indices: torch.Tensor) -> int:
        """Take slots back and return their number.

        Raises:
            PoolError: a slot that is free, foreign or repeated, or a part of a page.

        Order: blocks until the content of ``indices`` is known.
        """
        # Slots may come from the device: reading them waits for the work that computes them.
        return self._free_page_list.give_back(self.device.to_host(indices))

    def available_size(self) -> int:
        """Return the number of free slots."""
        return self._free_page_list.available()

    def clear(self) -> None:
        """Make all slots free. Rows keep their content."""
        self._free_page_list.clear()

    def backup_from_device_all_layer(
        self,
        *,
        device_pool: DevicePool,
        host_indices: torch.Tensor,
        device_indices: torch.Tensor,
        io_backend: str,
    ) -> None:
        """Copy the rows of ``device_indices`` in all layers to ``host_indices``.

        Shape: both ``(slot_num,) int64``; in device memory for ``kernel``, in host memory for
        ``direct``.

        Raises:
            TransferError: the backend is unknown or cannot move this layout; as
                :func:`assembler.transfer.engine.move`.
            RuntimeError: torch's message, when ``direct`` finds rows of different shapes.

        Order: launched on the current stream.
        """
        # One event behind the last launch covers all layers, because work of one stream runs in
        # order.
        submission = Submission(self.device, self._checked_backend(io_backend))
        slots = (host_indices, device_indices)
        if submission.launches_ahead:
            layers = self._known_rows.layers(self, device_pool, self.layer_num)
            whole = layers.span(0, self.layer_num)
            submission.launch_ahead(whole, slots, direction=Direction.BACKUP)
            moved_ahead(
                submission,
                direction=Direction.BACKUP,
                rows=whole.rows,
                host_indices=host_indices,
                device_indices=device_indices,
            )
            return
        for layer in range(self.layer_num):
            rows = self._known_rows.layer(self, device_pool, layer).rows
            self._move(submission, rows, slots, direction=Direction.BACKUP)

    def load_to_device_per_layer(
        self,
        *,
        device_pool: DevicePool,
        host_indices: torch.Tensor,
        device_indices: torch.Tensor,
        layer_id: int,
        io_backend: str,
    ) -> None:
        """Copy the rows of ``host_indices`` in one layer to ``device_indices``.

        ``layer_id`` is the layer's index in this pool. Otherwise, in the other direction, as
        :meth:`backup_from_device_all_layer`.

        Raises:
            TransferError: the pool has no such layer; otherwise as for a backup.
        """
        slots = (host_indices, device_indices)
        expected = self._expected_load
        if expected is None or not expected.covers(device_pool, slots, io_backend):
            submission = Submission(self.device, self._checked_backend(io_backend))
            self._check_layer(layer_id)
            row_set = self._known_rows.layer(self, device_pool, layer_id)
            if not submission.launches_ahead:
                self._move(submission, row_set.rows, slots, direction=Direction.LOAD)
                return
            submission.launch_ahead(row_set, slots, direction=Direction.LOAD)
            rows = row_set.rows
        else:
            self._check_layer(layer_id)
            submission, rows = expected.submission, expected.take_layer(layer_id)
            if layer_id == self.layer_num - 1:
                self._expected_load = None
        moved_ahead(
            submission,
            direction=Direction.LOAD,
            rows=rows,
            host_indices=host_indices,
            device_indices=device_indices,
        )

    def expect_load(
        self,
        *,
        device_pool: DevicePool,
        host_indices: torch.Tensor,
        device_indices: torch.Tensor,
        io_backend: str,
    ) -> None:
        """Announce that every layer will be loaded in order, by calls with these arguments.

        Where the device moves several layers at once, a call then also launches some of the
        following layers. The slots must keep their content until the last layer was loaded, and the
        calls use this stream. What cannot be loaded raises when it is loaded.
        """
        self._expected_load = None
        with suppress(TransferError):
            submission = Submission(self.device, self._checked_backend(io_backend))
            if submission.launches_ahead:
                self._expected_load = ExpectedLoad(
                    submission=submission,
                    device_pool=device_pool,
                    slots=(host_indices, device_indices),
                    stream=self.device.current_stream(),
                    layers=self._known_rows.layers(self, device_pool, self.layer_num),
                )

    def _move(
        self,
        submission: Submission,
        rows: tuple[LayerRows, ...],
        slots: tuple[torch.Tensor, torch.Tensor],
        *,
        direction: Direction,
    ) -> None:
        # Planes of a layer are copied one after the other on one stream: an error in the second
        # leaves the first copied, so nothing may rely on a half.
        for layer_rows in rows:
            move(
                submission,
                direction=direction,
                layer_rows=layer_rows,
                host_indices=slots[0],
                device_indices=slots[1],
            )

    def make_rows(
        self, plane: str, layer: int, buffer: torch.Tensor, device_buffer: torch.Tensor
    ) -> LayerRows:
        """Return the rows of a plane and layer, given the buffers of both sides."""
        host = host_window(buffer=buffer, rows=self._layer_rows(buffer, layer))
        rows = self._device_rows(device_buffer)
        device = device_window(buffer=device_buffer, rows=rows, row_bytes=host.row_bytes)
        row_map = self.row_map
        return LayerRows(
            owner=self, plane=plane, layer=layer, row_map=row_map, host=host, device=device
        )

    def _blocks(self, buffer: torch.Tensor, row: int, row_num: int) -> list[torch.Tensor]:
        """Return the contiguous views that hold a page's rows of all layers, from ``row`` on."""
        match self.layout:
            case HostLayout.LAYER_FIRST:
                return list(buffer[:, row : row + row_num])
            case HostLayout.PAGE_FIRST:
                return [buffer[row : row + row_num]]
            case HostLayout.PAGE_FIRST_DIRECT | HostLayout.PAGE_HEAD:
                return [buffer[row // row_num]]
            case _:
                assert_never(self.layout)

    @abstractmethod
    def _layer_rows(self, buffer: torch.Tensor, layer: int) -> torch.Tensor:
        """Return one layer's rows of a plane's buffer, the row axis first."""

    @abstractmethod
    def _device_rows(self, buffer: torch.Tensor) -> torch.Tensor:
        """Return the rows of a device buffer that pair with :meth:`_layer_rows`."""

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        # Unwritten: pinning has touched every page already, and zeros would touch them again. No
        # row is read before a backup has written it.
        return self.device.host_empty(shape, dtype, pin_memory=self.pin_memory)

    def _checked_layout(self, layout: str) -> HostLayout:
        # Every layout that some backend moves; which backend is known only when rows are moved.
        possible = {choice for choices in self.layouts.values() for choice in choices}
        if layout not in possible:
            raise PoolError(
                type(self).__name__,
                "unsupported layout",
                expected=" or ".join(sorted(possible)),
                got=layout,
            )
        return HostLayout(layout)

    def _checked_backend(self, io_backend: str) -> IoBackend:
        if io_backend not in self.layouts:
            raise TransferError(
                type(self).__name__,
                "unsupported io backend",
                expected=" or ".join(self.layouts),
                got=io_backend or "an empty name",
            )
        backend = IoBackend(io_backend)
        if self.layout not in self.layouts[backend]:
            raise TransferError(
                type(self).__name__,
                f"{backend} cannot move this layout",
                expected=" or ".join(self.layouts[backend]),
                got=self.layout,
            )
        return backend

    def _check_layer(self, layer: int) -> None:
        if not 0 <= layer < self.layer_num:
            raise TransferError(
                type(self).__name__,
                "layer must be in the pool",
                expected=f"0 to {self.layer_num - 1}",
                got=layer,
            )
