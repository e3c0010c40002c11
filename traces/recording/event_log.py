"""Events from observations: values are read at once, names are filled in at the end."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from traces.recording.buffers import BufferRecorder, PendingBuffer
from traces.recording.encode import Encoder
from traces.recording.object_ids import OwnerNames
from traces.recording.probes import (
    AllocationObservation,
    CollectiveObservation,
    CopyObservation,
    DeviceWaitObservation,
    EventRecordObservation,
    EventWaitObservation,
    Observation,
    ReleaseObservation,
    StorageObservation,
    Target,
    TransferObservation,
)
from traces.schema.collectives import Collective
from traces.schema.copies import Copy
from traces.schema.device_waits import DeviceAwaited
from traces.schema.life import StateRecord
from traces.schema.model import (
    Allocation,
    Event,
    EventAwaited,
    EventRecorded,
    Message,
    Release,
    Transfer,
)
from traces.schema.races import Race
from traces.schema.storage_records import StorageAccess

if TYPE_CHECKING:
    import torch


_NamedObservation: TypeAlias = (
    TransferObservation
    | CollectiveObservation
    | AllocationObservation
    | ReleaseObservation
    | StorageObservation
    | EventRecordObservation
    | EventWaitObservation
    | DeviceWaitObservation
)

# What is written is as large as the source, which may be broadcast, not as the whole target.
_WRITES_SELECTED = frozenset(("index_put_", "index_copy_", "scatter_"))


class EventLog:
    """The events of a recording in the order in which they were over.

    Args:
        target: knows on which side a pool is.
        encoder: reads slots and labels events.
        owners: knows the pools' names at the end.
        buffers: knows in which buffer a tensor lies.
        label: returns the label of a pool.
    """

    def __init__(
        self,
        target: Target,
        *,
        encoder: Encoder,
        owners: OwnerNames,
        buffers: BufferRecorder,
        label: Callable[[object], str],
    ) -> None:
        self._target = target
        self._encoder = encoder
        self._owners = owners
        self._buffers = buffers
        self._label = label
        self._unfinished: list[Callable[[], Event]] = []
        self._loaded_layers: dict[str, int] = {}

    def add(self, observation: Observation, *, step: str) -> bool:
        """Read an observation. What it refers to may change afterwards.

        Returns:
            Whether it is an event: a copy between tensors that are no recorded buffers is none.
        """
        if isinstance(observation, CopyObservation):
            ends = (self._buffers.find(observation.source), self._buffers.find(observation.target))
            if ends == (None, None):
                return False
            self._unfinished.append(self._copy(observation, step, ends))
        else:
            self._unfinished.append(self._read(observation, step))
        return True

    def add_record(self, record: Message | Race | StateRecord) -> None:
        """Add a message, a race or a state as it is."""
        self._unfinished.append(lambda: record)

    def events(self) -> tuple[Event, ...]:
        """Return all events. Call it when all pools are named and all slots are settled."""
        return tuple(finish() for finish in self._unfinished)

    def _read(self, observation: _NamedObservation, step: str) -> Callable[[], Event]:
        match observation:
            case TransferObservation():
                return self._transfer(observation, step)
            case AllocationObservation():
                return self._allocation(observation, step)
            case ReleaseObservation():
                return self._release(observation, step)
            case StorageObservation():
                used = StorageAccess(
                    step=step,
                    operation=observation.operation,
                    pool=observation.pool,
                    key=observation.key,
                    bytes=observation.bytes,
                    backend=observation.backend,
                    sha256=observation.sha256,
                )
                return lambda: used
            case CollectiveObservation():
                joined = Collective(
                    step=step,
                    operation=observation.operation,
                    reduction=observation.reduction,
                    group=observation.group.role,
                    ranks=observation.group.ranks,
                    rank=observation.group.rank,
                    peer=observation.peer,
                    dtype=observation.dtype,
                    shape=observation.shape,
                )
                return lambda: joined
            case EventRecordObservation():
                name = self._encoder.label(observation.event, observation.name)
                layer = self._loaded_layers.pop(observation.stream, None)
                marked = EventRecorded(step=step, name=name, stream=observation.stream, layer=layer)
                return lambda: marked
            case EventWaitObservation():
                name = f"stream:{observation.name}"
                if observation.event is not None:
                    name = self._encoder.label(observation.event, observation.name)
                waited = EventAwaited(step=step, name=name, stream=observation.stream)
                return lambda: waited
            case DeviceWaitObservation():
                idle = DeviceAwaited(step=step, stream=observation.stream)
                return lambda: idle

    def _transfer(self, observation: TransferObservation, step: str) -> Callable[[], Event]:
        # The observation holds the pool and the slots, so it must not outlive this call.
        pool = self._label(observation.host_pool)
        named, rows = observation.device_pool, observation.rows
        device_slots = self._encoder.slots(observation.device_slots)
        host_slots = self._encoder.slots(observation.host_slots)
        direction, plane, layer = observation.direction, observation.plane, observation.layer
        moved_bytes, backend, stream = observation.bytes, observation.backend, observation.stream
        if direction == "load":
            self._loaded_layers[stream] = layer
        return lambda: Transfer(
            step=step,
            direction=direction,
            pool=self._owners.pool(pool, side="host"),
            device_pool=self._owners.pool(pool, side="host") if named is None else named,
            plane=plane,
            layer=layer,
            device_slots=device_slots["slots"],
            host_slots=host_slots["slots"],
            rows=rows,
            row_bytes=moved_bytes // rows if rows else 0,
            bytes=moved_bytes,
            backend=backend,
            stream=stream,
        )

    def _copy(
        self,
        observation: CopyObservation,
        step: str,
        ends: tuple[PendingBuffer | None, PendingBuffer | None],
    ) -> Callable[[], Event]:
        source, target = ends
        operation, stream = observation.operation, observation.stream
        source_offset = _offset(observation.source, source)
        target_offset = _offset(observation.target, target)
        shape, copied_bytes = tuple(observation.target.shape), observation.target.nbytes
        if operation in _WRITES_SELECTED:
            shape, copied_bytes = tuple(observation.source.shape), observation.source.nbytes
        # Only integer vectors are slots; what a mask selects is seen by its shape.
        indices = [
            self._encoder.encode(index.reshape(-1), f"{operation}.indices")
            for index in observation.indices
        ]
        return lambda: Copy(
            step=step,
            pool=self._pool_name(target or source),
            operation=operation,
            source=self._buffer_name(source),
            source_offset=source_offset,
            target=self._buffer_name(target),
            target_offset=target_offset,
            indices=tuple(index.get("slots", "mask") for index in indices),
            shape=shape,
            bytes=copied_bytes,
            stream=stream,
        )

    def _pool_name(self, buffer: PendingBuffer | None) -> str:
        if buffer is None:
            return ""
        return self._owners.pool(buffer.record.object, side=buffer.record.side)

    def _buffer_name(self, buffer: PendingBuffer | None) -> str:
        if buffer is None:
            return ""
        owner = self._owners.resolve(buffer.record.object, side=buffer.record.side)
        return f"{owner}.{buffer.record.name}"

    def _allocation(self, observation: AllocationObservation, step: str) -> Callable[[], Event]:
        (owner, pool), need = self._owner(observation.pool), observation.need
        slots = None if observation.slots is None else self._encoder.slots(observation.slots)
        return lambda: Allocation(
            step=step,
            owner=owner(),
            pool=pool(),
            need=need,
            slots=None if slots is None else slots["slots"],
        )

    def _release(self, observation: ReleaseObservation, step: str) -> Callable[[], Event]:
        (owner, pool), slots = self._owner(observation.pool), self._encoder.slots(observation.slots)
        return lambda: Release(step=step, owner=owner(), pool=pool(), slots=slots["slots"])

    def _owner(self, pool: object) -> tuple[Callable[[], str], Callable[[], str]]:
        """Return what gives owner and pool name, which are known when the recording ends."""
        view = self._target.view(pool)
        assert view is not None, "slots belong to a pool"
        label, side = self._label(pool), view.side
        return (
            lambda: self._owners.resolve(label, side=side),
            lambda: self._owners.pool(label, side=side),
        )


def _offset(tensor: "torch.Tensor", buffer: PendingBuffer | None) -> int:
    """Return where a tensor begins, in its elements from the beginning of a buffer."""
    return 0 if buffer is None else (tensor.data_ptr() - buffer.address) // tensor.element_size()
