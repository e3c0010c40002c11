"""Device rows that a race is about, found by the memory that its two accesses touch."""

from collections.abc import Mapping, Sequence

from assembler import PoolName
from traces.simulator import DetectedRace, SimDevice
from traces.targets.common.content import RowBuffer
from traces.targets.common.labels import BufferPlace, FoundRace, found_race


class RowPlaces:
    """The rows of a stack by the number of their memory and their bytes in it."""

    def __init__(self) -> None:
        self._places: dict[int, list[tuple[range, BufferPlace]]] = {}

    def learn(self, rows: Mapping[PoolName, Sequence[RowBuffer]], device: SimDevice) -> None:
        """Note where rows lie; buffers that are noted already keep their place."""
        for buffers in rows.values():
            for buffer in buffers:
                start = buffer.tensor.storage_offset() * buffer.tensor.element_size()
                span = range(start, start + buffer.tensor.nbytes)
                place = BufferPlace(pool=buffer.pool, buffer=buffer.plane, layer=buffer.layer)
                known = self._places.setdefault(device.memory.number(buffer.tensor), [])
                known.append((span, place))

    def found_race(self, race: DetectedRace) -> FoundRace:
        """Return a race with the rows that it is about, as far as they are known."""
        places = self._places.get(race.memory, ())
        place = next((place for span, place in places if race.first_byte in span), None)
        return found_race(race, place=place)
