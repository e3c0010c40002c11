"""Timeline of a trace: streams as lanes, transfers as bars, happens-before edges between them.

A trace has an order and no times: the position of an event on the page is its number.
"""

from typing import TypeAlias

from traces.schema.model import HOST, EventAwaited, EventRecorded, Trace, Transfer
from traces.schema.storage_records import StorageAccess

Json: TypeAlias = dict[str, object]

STORAGE_LANE = "storage"


def timeline(trace: Trace) -> Json:
    """Return lanes, steps, bars and edges in a compact form for the page's script.

    ``bars`` are ``[position, lane, kind, label]``, ``edges`` ``[position of the record, its lane,
    position of the wait, its lane, event]``, ``steps`` ``[first position, name]``. A wait for an
    event that was never recorded has no edge and is a bar.
    """
    lanes: dict[str, int] = {}
    bars: list[tuple[int, int, str, str]] = []
    edges: list[tuple[int, int, int, int, str]] = []
    recorded: dict[str, tuple[int, int]] = {}
    steps: list[tuple[int, str]] = []
    for position, event in enumerate(trace.events):
        if not steps or steps[-1][1] != event.step:
            steps.append((position, event.step))
        match event:
            case Transfer():
                lane = lanes.setdefault(event.stream, len(lanes))
                bars.append((position, lane, event.direction, _transfer_label(event)))
            case EventRecorded():
                lane = lanes.setdefault(event.stream, len(lanes))
                recorded[event.name] = (position, lane)
                bars.append((position, lane, "record", f"record {event.name}"))
            case EventAwaited():
                lane = lanes.setdefault(event.stream, len(lanes))
                bars.append((position, lane, "wait", f"wait {event.name}"))
                if event.name in recorded:
                    edges.append((*recorded[event.name], position, lane, event.name))
            case StorageAccess():
                lane = lanes.setdefault(STORAGE_LANE, len(lanes))
                label = f"{event.operation} {event.pool} {event.key} {event.bytes} B"
                bars.append((position, lane, "storage", label))
            case _:
                lane = lanes.setdefault(HOST, len(lanes))
                bars.append((position, lane, "host", _host_label(event)))
    return {
        "lanes": list(lanes),
        "steps": steps,
        "bars": bars,
        "edges": edges,
        "length": len(trace.events),
    }


def _transfer_label(event: Transfer) -> str:
    return (
        f"{event.direction} {event.pool}.{event.plane} layer {event.layer}: {event.rows} rows of "
        f"{event.row_bytes} B, device {event.device_slots}, host {event.host_slots}"
    )


def _host_label(event: object) -> str:
    text = str(event)
    return text if len(text) <= _LABEL_CHARACTERS else f"{text[:_LABEL_CHARACTERS]} ..."


_LABEL_CHARACTERS = 160
