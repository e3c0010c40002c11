"""Events from observations: values are read at once, names are filled in at the end."""

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
        target: knows on which side a pool is.
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

    def add(self, observation: Observation, *, step: str) -> None:
        """Read an observation. What it refers to may change afterwards."""
        self._unfinished.append(self._read(observation, step))

    def add_message(self, message: Message) -> None:
        """Add a message as it is."""
        self._unfinished.append(lambda: message)

    def events(self) -> tuple[Event, ...]:
        """Return all events. Call it when all pools are named and all slots are settled."""
        return tuple(finish() for finish in self._unfinished)

    def _read(self, observation: Observation, step: str) -> Callable[[], Event]:
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
                )
                return lambda: used
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

    def _allocation(self, observation: AllocationObservation, step: str) -> Callable[[], Event]:
        owner, need = self._owner(observation.pool), observation.need
        slots = None if observation.slots is None else self._encoder.slots(observation.slots)
        return lambda: Allocation(
            step=step, owner=owner(), need=need, slots=None if slots is None else slots["slots"]
        )

    def _release(self, observation: ReleaseObservation, step: str) -> Callable[[], Event]:
        owner, slots = self._owner(observation.pool), self._encoder.slots(observation.slots)
        return lambda: Release(step=step, owner=owner(), slots=slots["slots"])

    def _owner(self, pool: object) -> Callable[[], str]:
        view = self._target.view(pool)
        assert view is not None, "slots belong to a pool"
        label, side = self._label(pool), view.side
        return lambda: self._owners.resolve(label, side=side)
