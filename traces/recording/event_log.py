"""Observations become events: read at once, named when all names are known."""

from collections.abc import Callable

from traces.recording.encode import Encoder
from traces.recording.object_ids import OwnerNames
from traces.recording.probes import (
    AllocationObservation,
    EventRecordObservation,
    EventWaitObservation,
    Observation,
    ReleaseObservation,
    StorageObservation,
    Target,
    TransferObservation,
)
from traces.schema.model import (
    Allocation,
    Event,
    EventAwaited,
    EventRecorded,
    Message,
    Release,
    StorageAccess,
    Transfer,
)


class EventLog:
    """The events of a recording in the order in which they were over.

    Args:
        target: tells on which side a pool is.
        encoder: reads slots and labels events.
        owners: knows the pools' names at the end.
        label: returns the label of a pool.
    """

    def __init__(
        self,
        target: Target,
        *,
        encoder: Encoder,
        owners: OwnerNames,
        label: Callable[[object], str],
    ) -> None:
        self._target = target
        self._encoder = encoder
        self._owners = owners
        self._label = label
        self._unfinished: list[Callable[[], Event]] = []
        self._loaded_layers: dict[str, int] = {}

    def add(self, seen: Observation, *, step: str) -> None:
        """Read an observation. What it refers to may change afterwards."""
        self._unfinished.append(self._read(seen, step))

    def add_message(self, message: Message) -> None:
        """Add a message as it is."""
        self._unfinished.append(lambda: message)

    def events(self) -> tuple[Event, ...]:
        """Return all events. Call it when all pools are named and all slots are settled."""
        return tuple(finish() for finish in self._unfinished)

    def _read(self, seen: Observation, step: str) -> Callable[[], Event]:
        match seen:
            case TransferObservation():
                return self._transfer(seen, step)
            case AllocationObservation():
                return self._allocation(seen, step)
            case ReleaseObservation():
                return self._release(seen, step)
            case StorageObservation():
                used = StorageAccess(
                    step=step,
                    operation=seen.operation,
                    pool=seen.pool,
                    key=seen.key,
                    bytes=seen.bytes,
                )
                return lambda: used
            case EventRecordObservation():
                name = self._encoder.label(seen.event, seen.name)
                layer = self._loaded_layers.pop(seen.stream, None)
                marked = EventRecorded(step=step, name=name, stream=seen.stream, layer=layer)
                return lambda: marked
            case EventWaitObservation():
                name = f"stream:{seen.name}"
                if seen.event is not None:
                    name = self._encoder.label(seen.event, seen.name)
                waited = EventAwaited(step=step, name=name, stream=seen.stream)
                return lambda: waited

    def _transfer(self, seen: TransferObservation, step: str) -> Callable[[], Event]:
        # The observation holds the pool and the slots, so it must not outlive this call.
        pool = self._label(seen.host_pool)
        named, rows = seen.device_pool, seen.rows
        device_slots = self._encoder.slots(seen.device_slots)
        host_slots = self._encoder.slots(seen.host_slots)
        direction, plane, layer = seen.direction, seen.plane, seen.layer
        moved_bytes, backend, stream = seen.bytes, seen.backend, seen.stream
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

    def _allocation(self, seen: AllocationObservation, step: str) -> Callable[[], Event]:
        owner, need = self._owner(seen.pool), seen.need
        slots = None if seen.slots is None else self._encoder.slots(seen.slots)
        return lambda: Allocation(
            step=step, owner=owner(), need=need, slots=None if slots is None else slots["slots"]
        )

    def _release(self, seen: ReleaseObservation, step: str) -> Callable[[], Event]:
        owner, slots = self._owner(seen.pool), self._encoder.slots(seen.slots)
        return lambda: Release(step=step, owner=owner(), slots=slots["slots"])

    def _owner(self, pool: object) -> Callable[[], str]:
        view = self._target.view(pool)
        assert view is not None, "slots belong to a pool"
        label, side = self._label(pool), view.side
        return lambda: self._owners.resolve(label, side=side)
