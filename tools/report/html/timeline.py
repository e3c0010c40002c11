"""Timeline of a trace: streams as lanes, transfers as bars, happens-before edges between them.

A trace has an order and no times: the position of an event on the page is its number.
"""

from typing import TypeAlias

from tools.report.order import order_edges, stream_of
from traces.schema.copies import Copy
from traces.schema.model import Event, EventAwaited, EventRecorded, Trace, Transfer
from traces.schema.storage_records import StorageAccess

Json: TypeAlias = dict[str, object]

STORAGE_LANE = "storage"


def timeline(trace: Trace) -> Json:
    """Return lanes, steps, bars and edges in a compact form for the page's script.

    ``bars`` are ``[position, lane, kind, label]``, ``edges`` ``[position of what comes first, its
    lane, position of the wait, its lane, event]``, ``steps`` ``[first position, name]``. A wait for
    something that has not happened has no edge and is a bar.
    """
    lanes: dict[str, int] = {}
    bars: list[tuple[int, int, str, str]] = []
    steps: list[tuple[int, str]] = []
    for position, event in enumerate(trace.events):
        if not steps or steps[-1][1] != event.step:
            steps.append((position, event.step))
        stored = isinstance(event, StorageAccess)
        lane = lanes.setdefault(STORAGE_LANE if stored else stream_of(event), len(lanes))
        bars.append((position, lane, *_kind_and_label(event)))
    return {
        "lanes": list(lanes),
        "steps": steps,
        "bars": bars,
        "edges": [
            (one.source, bars[one.source][1], one.target, bars[one.target][1], one.name)
            for one in order_edges(trace.events)
        ],
        "length": len(trace.events),
    }


def _kind_and_label(event: Event) -> tuple[str, str]:
    match event:
        case Transfer():
            return event.direction, _transfer_label(event)
        case EventRecorded():
            return "record", f"record {event.name}"
        case EventAwaited():
            return "wait", f"wait {event.name}"
        case Copy():
            return "copy", _copy_label(event)
        case StorageAccess():
            label = f"{event.operation} {event.pool} {event.key} {event.bytes} B"
            return "storage", label
        case _:
            return "host", _host_label(event)


def _transfer_label(event: Transfer) -> str:
    return (
        f"{event.direction} {event.pool}.{event.plane} layer {event.layer}: {event.rows} rows of "
        f"{event.row_bytes} B, device {event.device_slots}, host {event.host_slots}"
    )


def _copy_label(event: Copy) -> str:
    source, target = event.source or "other memory", event.target or "other memory"
    return f"{event.operation} from {source} to {target}: {event.bytes} B"


def _host_label(event: object) -> str:
    text = str(event)
    return text if len(text) <= _LABEL_CHARACTERS else f"{text[:_LABEL_CHARACTERS]} ..."


_LABEL_CHARACTERS = 160
