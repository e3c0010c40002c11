"""The probes of the miniature stack."""

from pathlib import Path

import tinystack
from tinystack import pools, stack

from traces.recording.encode import Encoder
from traces.recording.probes import (
    AllocationObservation,
    CallProbe,
    EventProbe,
    EventRecordObservation,
    EventWaitObservation,
    PoolNaming,
    PoolView,
    Probe,
    ReleaseObservation,
    TransferObservation,
    Values,
)

CLASSES = (
    pools.DevicePool,
    pools.WideDevicePool,
    pools.HostPool,
    pools.PairPool,
    stack.PoolEntry,
    stack.Group,
    stack.Controller,
    stack.EagerController,
)
ALLOCATORS = (pools.HostPool, pools.PairPool)


class TinyTarget:
    """As a real target, by hand."""

    name = "tiny"
    package = "tinystack"
    root = Path(tinystack.__file__).parent.parent

    def builders(self):
        return ("build_stack",)

    def probes(self) -> list[Probe]:
        builders = (stack.build_host, stack.build_stack, stack.build_slowly)
        found: list[Probe] = [_builder(function) for function in builders]
        found += [_constructor(cls) for cls in CLASSES if "__init__" in vars(cls)]
        found += [
            CallProbe(
                function=cls.write,
                callee=f"{cls.__name__}.write",
                role="operation",
                method="write",
                names_pools=None,
            )
            for cls in (stack.Controller, stack.EagerController)
        ]
        for cls in ALLOCATORS:
            found += [
                EventProbe(function=cls.alloc, family="alloc", nesting="innermost", observe=_taken),
                EventProbe(
                    function=cls.free, family="free", nesting="innermost", observe=_returned
                ),
            ]
        return [
            *found,
            EventProbe(function=pools.move, family="move", nesting="every", observe=_moved),
            _order(pools.Event.record, lambda v, _: _marked(v)),
            _order(pools.Event.synchronize, lambda v, _: _event_waited(v["self"], "host")),
            _order(
                pools.Stream.wait_event,
                lambda v, _: _event_waited(v["event"], v["self"].name),
            ),
            _order(
                pools.Stream.synchronize,
                lambda v, _: EventWaitObservation(event=None, name=v["self"].name, stream="host"),
            ),
        ]

    def register_types(self, encoder: Encoder) -> None:
        for cls in CLASSES:
            encoder.register_reference(cls, cls.__name__)
        encoder.register_value(stack.Options)

    def view(self, pool: object) -> PoolView | None:
        if isinstance(pool, pools.DevicePool):
            return PoolView(side="device", layout="", is_pinned=lambda tensor: False)
        if isinstance(pool, pools.HostPool | pools.PairPool):
            return PoolView(side="host", layout="layer_first", is_pinned=lambda tensor: True)
        return None


def _builder(function) -> CallProbe:
    return CallProbe(
        function=function, callee=function.__name__, role="builder", method="", names_pools=None
    )


def _constructor(cls) -> CallProbe:
    return CallProbe(
        function=cls.__init__,
        callee=cls.__name__,
        role="constructor",
        method="__init__",
        names_pools=_namings if cls is stack.PoolEntry else None,
    )


def _order(function, observe) -> EventProbe:
    return EventProbe(function=function, family="order", nesting="outermost", observe=observe)


def _namings(values: Values) -> list[PoolNaming]:
    return [
        PoolNaming(side="host", pool=values["name"], holder=values["host_pool"]),
        PoolNaming(side="device", pool=values["name"], holder=values["device_pool"]),
    ]


def _taken(values: Values, result: object) -> AllocationObservation:
    return AllocationObservation(pool=values["self"], need=values["need"], slots=result)


def _returned(values: Values, result: object) -> ReleaseObservation:
    return ReleaseObservation(pool=values["self"], slots=values["indices"])


def _moved(values: Values, result: int) -> TransferObservation:
    return TransferObservation(
        direction=values["direction"],
        host_pool=values["host_pool"],
        device_pool=None,
        plane="kv",
        layer=values["layer"],
        device_slots=values["device_indices"],
        host_slots=values["host_indices"],
        rows=len(values["device_indices"]),
        bytes=result,
        backend="kernel",
        stream="default",
    )


def _marked(values: Values) -> EventRecordObservation:
    event = values["self"]
    return EventRecordObservation(event=event, name=event.name, stream=values["stream"].name)


def _event_waited(event: pools.Event, stream: str) -> EventWaitObservation:
    return EventWaitObservation(event=event, name=event.name, stream=stream)
