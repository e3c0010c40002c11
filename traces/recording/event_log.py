"""Events from observations: values are read at once, names are filled in at the end."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

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
    NamedObservation,
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
        self._unfinished: list[Event | Callable[[], Event]] = []
        # Recordings have up to millions of events, which mostly move the same slots.
        self._texts: dict[str, str] = {}
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
        self._unfinished.append(record)

    def events(self) -> tuple[Event, ...]:
        """Return all events. Call it when all pools are named and all slots are settled."""
        for number, found in enumerate(self._unfinished):
            # In its place: what it was made of can go.
            self._unfinished[number] = found() if callable(found) else found
        return tuple(event for event in self._unfinished if not callable(event))

    def _read(self, observation: NamedObservation, step: str) -> Event | Callable[[], Event]:
        match observation:
            case TransferObservation():
                return self._transfer(observation, step)
            case AllocationObservation():
                return self._allocation(observation, step)
            case ReleaseObservation():
                return self._release(observation, step)
            case StorageObservation():
                return StorageAccess(
                    step=step,
                    operation=observation.operation,
                    pool=observation.pool,
                    key=observation.key,
                    bytes=observation.bytes,
                    backend=observation.backend,
                    sha256=observation.sha256,
                )
            case CollectiveObservation():
                return Collective(
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
            case EventRecordObservation():
                name = self._encoder.label(observation.event, observation.name)
                layer = self._loaded_layers.pop(observation.stream, None)
                return EventRecorded(step=step, name=name, stream=observation.stream, layer=layer)
            case EventWaitObservation():
                name = f"stream:{observation.name}"
                if observation.event is not None:
                    name = self._encoder.label(observation.event, observation.name)
                return EventAwaited(step=step, name=name, stream=observation.stream)
            case DeviceWaitObservation():
                return DeviceAwaited(step=step, stream=observation.stream)

    def _transfer(self, observation: TransferObservation, step: str) -> Callable[[], Event]:
        # The observation holds the pool and the slots, so it must not outlive this call.
        pool = self._label(observation.host_pool)
        named, rows = observation.device_pool, observation.rows
        sides = (observation.device_slots, observation.host_slots)
        texts = [self._encoder.slots(side) for side in sides]
        if observation.direction == "load":
            self._loaded_layers[observation.stream] = observation.layer
        record = Transfer(
            step=step,
            direction=observation.direction,
            pool=pool,
            device_pool=pool if named is None else named,
            plane=observation.plane,
            layer=observation.layer,
            device_slots=self._shared(texts[0]["slots"]),
            host_slots=self._shared(texts[1]["slots"]),
            rows=rows,
            row_bytes=observation.bytes // rows if rows else 0,
            bytes=observation.bytes,
            backend=observation.backend,
            stream=observation.stream,
        )
        is_settled = not any(side.is_cuda for side in sides)
        return _PendingTransfer(
            self, record, names_device=named is None, texts=None if is_settled else texts
        )

    def finish_transfer(
        self, record: Transfer, *, names_device: bool, texts: list[dict[str, Any]] | None
    ) -> Transfer:
        """Return a transfer with the names of its pools, and the slots that were on a device."""
        pool = self._owners.pool(record.pool, side="host")
        changed: dict[str, Any] = {"pool": pool}
        if names_device:
            changed["device_pool"] = pool
        if texts is not None:
            changed["device_slots"] = self._shared(texts[0]["slots"])
            changed["host_slots"] = self._shared(texts[1]["slots"])
        return msgspec.structs.replace(record, **changed)

    def _shared(self, text: str) -> str:
        return self._texts.setdefault(text, text)

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


class _PendingTransfer:
    """A transfer whose pools have their labels in place of their names."""

    __slots__ = ("_log", "_names_device", "_record", "_texts")

    def __init__(
        self,
        log: EventLog,
        record: Transfer,
        *,
        names_device: bool,
        texts: list[dict[str, Any]] | None,
    ) -> None:
        self._log = log
        self._record = record
        self._names_device = names_device
        self._texts = texts

    def __call__(self) -> Transfer:
        return self._log.finish_transfer(
            self._record, names_device=self._names_device, texts=self._texts
        )


def _offset(tensor: "torch.Tensor", buffer: PendingBuffer | None) -> int:
    """Return where a tensor begins, in its elements from the beginning of a buffer."""
    return 0 if buffer is None else (tensor.data_ptr() - buffer.address) // tensor.element_size()
