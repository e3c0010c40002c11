"""The record of a wait of the host for all streams."""

from traces.schema.record import Record


class DeviceAwaited(Record, frozen=True, tag_field="event", tag="wait_device"):
    """The host waits until all work of all streams is done, as a package asks for it.

    Attributes:
        stream: on which the host launches at that moment.
    """

    step: str
    stream: str
