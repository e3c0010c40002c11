"""Reads of attention during a load: every accessor of every pool is called, and its rows are read.

Each accessor is called on a stream of its own: another one's wait would order its reads too. The
rows of a pool that others hold are not read: the pool in front of it waits for them.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from traces.schema.model import Reading
from traces.schema.pools import PoolAccessor
from traces.schema.slot_ranges import sorted_slot_ranges
from traces.targets.common.content import RowBuffer
from traces.targets.common.planes import Plane
from traces.targets.common.pool_buffers import span_bytes
from traces.targets.common.rows import launch_read
from traces.targets.sglang.accessors import ArgumentMaker, PoolAccessMethod, accessors_of
from traces.targets.sglang.assembly import AssembledStack
from traces.targets.sglang.held_pools import HeldPool, device_pools
from traces.targets.sglang.pool_answers import failure_text
from traces.targets.sglang.script_device import ScriptDevice
from traces.targets.sglang.shims.triton_interpreter import KernelUnavailableError

READER_PREFIX = "read."
"""Begins the names of the streams on which accessors read."""

_LAYERS_MAX = 64
# An answer is a tensor, a pair of them, or an object that holds a layer's tensors.
_DEPTH_MAX = 3

_Rows = tuple[Plane, RowBuffer]


@dataclass(slots=True, kw_only=True)
class _Answers:
    """The answers of one accessor for all layers."""

    planes: dict[str, None] = field(default_factory=dict)  # an ordered set
    layers: set[int] = field(default_factory=set)
    # Rows that were read, with what they were read as.
    read: list[tuple[Plane, int, torch.Tensor]] = field(default_factory=list)
    failure: str = ""  # empty when any call succeeded


class AccessorReader:
    """Calls the accessors of the pools of one stack, and reads the rows of one loaded node.

    ``slots`` are the node's device slots by domain, in device memory.
    """

    def __init__(
        self,
        stack: AssembledStack,
        *,
        device: ScriptDevice,
        planes: Sequence[Plane],
        slots: Mapping[str, torch.Tensor],
    ) -> None:
        self._device = device
        self._pools = device_pools(stack)
        page, kv, requests = stack.page_size, slots["KV"], stack.req_to_token_pool
        with device.pause_interception():
            self._slots = {name: own.cpu() for name, own in slots.items()}
            self._arguments = ArgumentMaker(
                slots=kv,
                pages=kv[::page] // page,
                page_size=page,
                request_table=getattr(requests, "req_to_token", None),
            )
        rows = [(plane, buffer) for plane in planes for buffer in plane.layers]
        self._rows = sorted(rows, key=lambda pair: pair[1].tensor.data_ptr())
        self._layers: dict[str, dict[int, tuple[_Rows, ...]]] = {}

    def read_all(
        self, written: Mapping[tuple[str, int], torch.Tensor]
    ) -> Iterator[Reading | PoolAccessor]:
        """Yield a record for every accessor, and one more for each whose rows were read.

        ``written`` has the expected content by plane and layer. Whether the stream waited shows in
        the events of the recording.
        """
        accessors = [one for held in self._pools for one in accessors_of(held)]
        # What takes no layer may wait for the whole device.
        accessors.sort(key=lambda accessor: not accessor.layer)
        answers = [(accessor, self._answers(accessor)) for accessor in accessors]
        self._device.synchronize()
        for accessor, answer in answers:
            yield _accessor_record(accessor, answer)
            if answer.read:
                yield self._reading(accessor, answer, written)

    def _reading(
        self,
        accessor: PoolAccessMethod,
        answer: _Answers,
        written: Mapping[tuple[str, int], torch.Tensor],
    ) -> Reading:
        with self._device.pause_interception():
            equal = all(
                torch.equal(rows.cpu(), written[plane.name, layer])
                for plane, layer, rows in answer.read
            )
        return Reading(
            step="reload",
            pool=answer.read[0][0].pool,
            accessor=accessor.name,
            stream=_stream(accessor),
            waited=False,
            equal=equal,
        )

    def _answers(self, accessor: PoolAccessMethod) -> _Answers:
        """Call an accessor on a stream of its own, and read what it hands out."""
        found = _Answers()
        arguments, unknown = self._arguments.arguments(accessor)
        if unknown:
            found.failure = f"takes {unknown}, which is not known"
            return found
        first = getattr(accessor.held.pool, "start_layer", None) or 0
        numbers = range(first, first + _LAYERS_MAX) if accessor.layer else (first,)
        known = self._layers_of(accessor.held, numbers) if accessor.layer else {}
        failures: dict[int, str] = {}
        with self._device.on_new_stream(_stream(accessor)):
            for number in numbers:
                rows, failures[number] = self._call(
                    accessor, number, arguments, known.get(number, ()) if accessor.wanted else ()
                )
                self._take(accessor, rows, found)
        if "" not in failures.values():
            # That of a layer which the pool has says more than that of one it lacks.
            number = next((one for one in numbers if known.get(one)), first)
            found.failure = failures[number]
        return found

    def _take(self, accessor: PoolAccessMethod, rows: Sequence[_Rows], found: _Answers) -> None:
        for plane, buffer in rows:
            found.planes[plane.name] = None
            found.layers.add(buffer.layer)
            if _is_read(accessor):
                slots = self._slots[plane.domain.name]
                taken = launch_read(self._device, buffer, slots, accessor=accessor.name)
                found.read.append((plane, buffer.layer, taken))

    def _call(
        self,
        accessor: PoolAccessMethod,
        number: int,
        arguments: Mapping[str, Any],
        known: Sequence[_Rows],
    ) -> tuple[Sequence[_Rows], str]:
        """Return the rows that an accessor hands out for a layer, and how it failed.

        For an accessor that returns the result of a kernel, they are the rows the kernel reads:
        those that the pool's other accessors hand out for the layer, ``known``.
        """
        is_quiet = not _is_read(accessor)
        try:
            with self._device.pause_interception() if is_quiet else nullcontext():
                answer = accessor.call(number, arguments)
        except KernelUnavailableError:
            return known, ""
        except Exception as error:  # noqa: BLE001 - pools raise different errors for unknown layers
            return (), failure_text(error)
        rows = tuple(dict.fromkeys(self._find(answer)))
        return rows or known, ""

    def _layers_of(self, held: HeldPool, numbers: Sequence[int]) -> dict[int, tuple[_Rows, ...]]:
        """Return the rows of each layer, as the accessors that take nothing else hand them out."""
        if held.path not in self._layers:
            simple = [one for one in accessors_of(held) if one.layer and not one.wanted]
            with self._device.on_new_stream(f"known {held.path}"):
                self._layers[held.path] = {
                    number: tuple(
                        dict.fromkeys(
                            row for one in simple for row in self._call(one, number, {}, ())[0]
                        )
                    )
                    for number in numbers
                }
        return self._layers[held.path]

    def _find(self, answer: Any, depth: int = 0) -> Iterator[_Rows]:  # noqa: ANN401
        """Yield the rows whose memory an answer begins in."""
        if isinstance(answer, torch.Tensor):
            address = answer.data_ptr()
            place = bisect_right(self._rows, address, key=lambda pair: pair[1].tensor.data_ptr())
            if place:
                tensor = self._rows[place - 1][1].tensor
                if answer.numel() and address < tensor.data_ptr() + span_bytes(tensor):
                    yield self._rows[place - 1]
        elif depth < _DEPTH_MAX:
            for item in _items(answer):
                yield from self._find(item, depth + 1)


def _is_read(accessor: PoolAccessMethod) -> bool:
    """Return whether the rows of an accessor are read: those of the pools that attention asks."""
    return bool(accessor.layer) and not accessor.held.outer and not accessor.held.is_draft


def _stream(accessor: PoolAccessMethod) -> str:
    return f"{READER_PREFIX}{accessor.label}"


def _accessor_record(accessor: PoolAccessMethod, answer: _Answers) -> PoolAccessor:
    return PoolAccessor(
        step="reload",
        holder=accessor.held.path,
        method=accessor.name,
        planes=tuple(answer.planes),
        layers=sorted_slot_ranges(answer.layers),
        stream=_stream(accessor),
        read=bool(answer.read),
        waited=False,
        reason=answer.failure,
    )


def _items(answer: Any) -> list[Any]:  # noqa: ANN401
    if isinstance(answer, list | tuple):
        return list(answer)
    return list(vars(answer).values()) if hasattr(answer, "__dict__") else []
