"""Reads of attention during a load: get a layer's buffers from an accessor and read their rows.

Each accessor reads on a stream of its own: another one's wait would order its reads too.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from traces.schema.model import Reading
from traces.targets.common.content import RowBuffer
from traces.targets.common.planes import Plane
from traces.targets.common.rows import launch_read
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.discovery import layer_accessors
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.shims.triton_package import KernelUnavailableError

READER_PREFIX = "read."
"""Begins the names of the streams on which accessors read."""

_LAYERS_MAX = 64
# An answer is a tensor, a pair of them, or an object that holds a layer's tensors.
_DEPTH_MAX = 3


class AccessorReader:
    """Reads the rows of one loaded node through every accessor of the stack's outer pools.

    ``slots`` are the node's device slots by domain, on the host; ``page_indices`` the pages of its
    KV slots, in device memory.
    """

    def __init__(
        self,
        *,
        device: ScriptDevice,
        stack: AssembledStack,
        planes: Sequence[Plane],
        slots: Mapping[str, torch.Tensor],
        page_indices: torch.Tensor,
    ) -> None:
        self._device = device
        self._planes = planes
        self._slots = slots
        self._page_indices = page_indices
        self._page_size = stack.page_size
        self._pools = [pool for pool in (stack.kvcache, stack.req_to_token_pool) if pool]
        self._by_address = {
            buffer.tensor.data_ptr(): (plane, buffer) for plane in planes for buffer in plane.layers
        }

    def read_all(self, written: Mapping[tuple[str, int], torch.Tensor]) -> Iterator[Reading]:
        """Compare reads with ``written``; yield a record for each accessor that returned rows.

        ``written`` has the expected content by plane and layer. Whether the stream waited shows in
        the events of the recording.
        """
        readings = [
            (name, self._read(pool, name)) for pool in self._pools for name in layer_accessors(pool)
        ]
        self._device.synchronize()
        for name, reading in readings:
            if reading:
                with self._device.pause_interception():
                    equal = all(
                        torch.equal(rows.cpu(), written[plane.name, layer])
                        for plane, layer, rows in reading
                    )
                yield Reading(
                    step="reload",
                    pool=reading[0][0].pool,
                    accessor=name,
                    stream=f"{READER_PREFIX}{name}",
                    waited=False,
                    equal=equal,
                )

    def _read(self, pool: Any, name: str) -> list[tuple[Plane, int, torch.Tensor]]:  # noqa: ANN401
        accessor = getattr(pool, name)
        extra = self._arguments(accessor)
        found: list[tuple[Plane, int, torch.Tensor]] = []
        if extra is None:
            return found
        first = getattr(pool, "start_layer", None) or 0
        with self._device.on_new_stream(f"{READER_PREFIX}{name}"):
            for layer_id in range(first, first + _LAYERS_MAX):
                for plane, buffer in self._call_accessor(
                    accessor, layer_id, extra, local=layer_id - first
                ):
                    slots = self._slots[plane.domain.name]
                    rows = launch_read(self._device, buffer, slots, accessor=name)
                    found.append((plane, buffer.layer, rows))
        return found

    def _call_accessor(
        self, accessor: Callable[..., Any], layer_id: int, extra: dict[str, Any], *, local: int
    ) -> list[tuple[Plane, RowBuffer]]:
        """Return the rows that an accessor returns for a layer; nothing without such a layer.

        For an accessor that returns the result of a kernel, they are the rows the kernel reads.
        """
        try:
            answer = accessor(layer_id, **extra)
        except KernelUnavailableError:
            return self._rows_of_layer(local)
        except Exception:  # noqa: BLE001 - pools raise different errors for an unknown layer
            return []
        return list(self._known(answer)) or (self._rows_of_layer(local) if extra else [])

    def _rows_of_layer(self, layer: int) -> list[tuple[Plane, RowBuffer]]:
        return [
            (plane, buffer)
            for plane in self._planes
            for buffer in plane.layers
            if buffer.layer == layer and plane.domain.name == "KV"
        ]

    def _known(self, answer: Any, depth: int = 0) -> Iterator[tuple[Plane, RowBuffer]]:  # noqa: ANN401
        if isinstance(answer, torch.Tensor):
            known = self._by_address.get(answer.data_ptr())
            if known is not None:
                yield known
        elif depth < _DEPTH_MAX:
            for item in _answer_tensors(answer):
                yield from self._known(item, depth + 1)

    def _arguments(self, accessor: Any) -> dict[str, Any] | None:  # noqa: ANN401
        """Return an accessor's arguments beside the layer; None where one is unknown."""
        known = {"seq_len": self._page_size, "page_indices": self._page_indices}
        wanted = [
            parameter.name
            for parameter in list(inspect.signature(accessor).parameters.values())[1:]
            if parameter.default is inspect.Parameter.empty
            and parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        return {name: known[name] for name in wanted} if set(wanted) <= known.keys() else None


def _answer_tensors(answer: Any) -> list[Any]:  # noqa: ANN401
    if isinstance(answer, list | tuple):
        return list(answer)
    return list(vars(answer).values()) if hasattr(answer, "__dict__") else []
