"""Small stream and event programs, written once for every device, and what they may show.

A program runs on a fresh ``LitmusContext`` and returns its outcome, a tuple of integers. ``delay``
stands where a GPU is made slow, so that what may happen late does happen late there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import torch

from assembler.device import Device, row_access, tensor_access

# About a tenth of a millisecond of device time for each unit.
CYCLES_PER_UNIT = 200_000


@dataclass(frozen=True)
class Litmus:
    """A program and what the rules say about it.

    Attributes:
        play: the program.
        outcomes: every outcome that is allowed.
        is_racy: whether something in it is not ordered.
        is_observed: whether the host looks at anything before it synchronises with everything.
    """

    play: Callable
    outcomes: set
    is_racy: bool
    is_observed: bool

    @property
    def name(self):
        return self.play.__name__


class LitmusContext:
    """Streams, cells and delays of one run of a program.

    A cell is one int64 of device memory, 0 at first; ``seen`` cells are page-locked host memory.
    """

    def __init__(self, device: Device, *, delays):
        self.device = device
        self._delays = iter(delays)
        self._labels = count()
        self.default = device.current_stream()
        self.a, self.b, self.c = (device.new_stream(name) for name in "abc")

    def cell(self):
        cell = self.device.zeros((1,), torch.int64)
        self.device.synchronize()
        return cell

    def host_cell(self):
        cell = self.device.host_empty((1,), torch.int64, pin_memory=True)
        cell.fill_(0)
        return cell

    def delay(self, stream):
        """Make a GPU's stream busy for a while; nothing elsewhere."""
        units = next(self._delays, 0)
        if self.device.kind == "cuda" and units:
            with torch.cuda.stream(stream.torch_stream):
                torch.cuda._sleep(units * CYCLES_PER_UNIT)

    def put(self, stream, cell, value, label="put"):
        self.delay(stream)
        target = self.device.mapped(cell)
        with self.device.on(stream):
            self.device.launch(
                lambda: target.fill_(value), label=label, reads=(), writes=(tensor_access(cell),)
            )

    def copy(self, stream, source, target, label="copy"):
        self.delay(stream)
        there, here = self.device.mapped(target), self.device.mapped(source)
        with self.device.on(stream):
            self.device.launch(
                lambda: there.copy_(here),
                label=label,
                reads=(tensor_access(source),),
                writes=(tensor_access(target),),
            )

    def event(self):
        return self.device.new_event(f"event{next(self._labels)}")

    def host_read(self, cell):
        """Read page-locked memory without synchronising."""
        self.device.host_access(label="host read", reads=(tensor_access(cell),), writes=())
        return int(cell)

    def results(self, *cells):
        self.device.synchronize()
        return tuple(int(self.device.to_host(cell)) for cell in cells)


def no_wait(context):
    x, seen = context.cell(), context.cell()
    context.put(context.a, x, 1)
    context.copy(context.b, x, seen)
    return context.results(seen)


def event_wait(context):
    x, seen, event = context.cell(), context.cell(), context.event()
    context.put(context.a, x, 1)
    event.record(context.a)
    context.b.wait_event(event)
    context.copy(context.b, x, seen)
    return context.results(seen)


def wait_before_record(context):
    x, seen, event = context.cell(), context.cell(), context.event()
    context.b.wait_event(event)
    context.put(context.a, x, 1)
    event.record(context.a)
    context.copy(context.b, x, seen)
    return (*context.results(seen), int(event.query()))


def query_of_unrecorded_event(context):
    event = context.event()
    first = event.query()
    event.synchronize()
    return (int(first), int(event.query()))


def record_again(context):
    """The wait comes after both records, so it waits for the second."""
    x, seen, event = context.cell(), context.cell(), context.event()
    context.put(context.a, x, 1)
    event.record(context.a)
    context.put(context.a, x, 2)
    event.record(context.a)
    context.b.wait_event(event)
    context.copy(context.b, x, seen)
    return context.results(seen)


def wait_before_record_again(context):
    """The wait keeps the mark it found: the second record does not move it."""
    x, seen, event = context.cell(), context.cell(), context.event()
    context.put(context.a, x, 1)
    event.record(context.a)
    context.b.wait_event(event)
    context.put(context.a, x, 2)
    event.record(context.a)
    context.copy(context.b, x, seen)
    return context.results(seen)


def query_loop(context):
    seen, event = context.host_cell(), context.event()
    context.put(context.a, seen, 1)
    event.record(context.a)
    while not event.query():
        pass
    return (context.host_read(seen),)


def query_once(context):
    seen, event = context.host_cell(), context.event()
    context.put(context.a, seen, 1)
    event.record(context.a)
    is_done = event.query()
    outcome = (int(is_done), context.host_read(seen) if is_done else -1)
    context.device.synchronize()
    return outcome


def host_read_after_event(context):
    seen, event = context.host_cell(), context.event()
    context.put(context.a, seen, 1)
    event.record(context.a)
    event.synchronize()
    return (context.host_read(seen),)


def host_read_too_early(context):
    seen = context.host_cell()
    context.put(context.a, seen, 1)
    value = context.host_read(seen)
    context.device.synchronize()
    return (value,)


def default_stream_is_no_barrier(context):
    x, seen = context.cell(), context.cell()
    context.put(context.default, x, 1)
    context.copy(context.a, x, seen)
    return context.results(seen)


def side_stream_is_no_barrier(context):
    x, seen = context.cell(), context.cell()
    context.put(context.a, x, 1)
    context.copy(context.default, x, seen)
    return context.results(seen)


def diamond(context):
    """One stream feeds two, whose results meet again."""
    x, y, z, seen = context.cell(), context.cell(), context.cell(), context.cell()
    start, left, right = context.event(), context.event(), context.event()
    context.put(context.a, x, 1)
    start.record(context.a)
    context.b.wait_event(start)
    context.c.wait_event(start)
    context.copy(context.b, x, y)
    context.copy(context.c, x, z)
    left.record(context.b)
    right.record(context.c)
    context.default.wait_event(left)
    context.default.wait_event(right)
    context.copy(context.default, y, seen)
    return context.results(seen, z)


def diamond_with_one_side(context):
    x, y, z, seen = context.cell(), context.cell(), context.cell(), context.cell()
    left = context.event()
    context.put(context.b, y, 1)
    context.put(context.c, z, 1)
    left.record(context.b)
    context.default.wait_event(left)
    context.copy(context.default, y, x)
    context.copy(context.default, z, seen)
    return context.results(x, seen)


def backup_then_overwrite(context):
    x, backup, event = context.cell(), context.host_cell(), context.event()
    context.put(context.default, x, 1)
    event.record(context.default)
    context.a.wait_event(event)
    context.copy(context.a, x, backup)
    event.record(context.a)
    context.default.wait_event(event)
    context.put(context.default, x, 2)
    return context.results(backup, x)


def overwrite_during_backup(context):
    x, backup, event = context.cell(), context.host_cell(), context.event()
    context.put(context.default, x, 1)
    event.record(context.default)
    context.a.wait_event(event)
    context.copy(context.a, x, backup)
    context.put(context.default, x, 2)
    return context.results(backup, x)


def _loaded_layers(context, *, late):
    """Two layers are loaded; each is read after its event, or after the first one's if ``late``."""
    layers, seen = [context.cell(), context.cell()], [context.cell(), context.cell()]
    events = [context.event(), context.event()]
    for layer, event in zip(layers, events, strict=True):
        context.put(context.a, layer, 1)
        event.record(context.a)
    for number in range(2):
        context.default.wait_event(events[0 if late else number])
        context.copy(context.default, layers[number], seen[number])
    return context.results(*seen)


def load_then_read_per_layer(context):
    return _loaded_layers(context, late=False)


def read_waits_for_another_layer(context):
    return _loaded_layers(context, late=True)


def rows_apart(context):
    """Two streams write different rows of one buffer: no conflict, whatever the order."""
    device, table = context.device, context.device.zeros((2,), torch.int64)
    device.synchronize()
    for row, stream in enumerate((context.a, context.b)):
        context.delay(stream)
        with device.on(stream):
            device.launch(
                lambda row=row: table[row : row + 1].fill_(row + 1),
                label="put row",
                reads=(),
                writes=(row_access(table, lambda row=row: torch.tensor([row])),),
            )
    device.synchronize()
    return tuple(device.to_host(table).tolist())


PROGRAMS = [
    Litmus(no_wait, {(0,), (1,)}, is_racy=True, is_observed=False),
    Litmus(event_wait, {(1,)}, is_racy=False, is_observed=False),
    Litmus(wait_before_record, {(0, 1), (1, 1)}, is_racy=True, is_observed=False),
    Litmus(query_of_unrecorded_event, {(1, 1)}, is_racy=False, is_observed=True),
    Litmus(record_again, {(2,)}, is_racy=False, is_observed=False),
    Litmus(wait_before_record_again, {(1,), (2,)}, is_racy=True, is_observed=False),
    Litmus(query_loop, {(1,)}, is_racy=False, is_observed=True),
    Litmus(query_once, {(0, -1), (1, 1)}, is_racy=False, is_observed=True),
    Litmus(host_read_after_event, {(1,)}, is_racy=False, is_observed=True),
    Litmus(host_read_too_early, {(0,), (1,)}, is_racy=True, is_observed=True),
    Litmus(default_stream_is_no_barrier, {(0,), (1,)}, is_racy=True, is_observed=False),
    Litmus(side_stream_is_no_barrier, {(0,), (1,)}, is_racy=True, is_observed=False),
    Litmus(diamond, {(1, 1)}, is_racy=False, is_observed=False),
    Litmus(diamond_with_one_side, {(1, 0), (1, 1)}, is_racy=True, is_observed=False),
    Litmus(backup_then_overwrite, {(1, 2)}, is_racy=False, is_observed=False),
    Litmus(overwrite_during_backup, {(1, 2), (2, 2)}, is_racy=True, is_observed=False),
    Litmus(load_then_read_per_layer, {(1, 1)}, is_racy=False, is_observed=False),
    Litmus(read_waits_for_another_layer, {(1, 0), (1, 1)}, is_racy=True, is_observed=False),
    Litmus(rows_apart, {(1, 2)}, is_racy=False, is_observed=False),
]
