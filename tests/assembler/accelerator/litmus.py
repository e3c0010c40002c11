"""Small stream and event programs, written once for every device, and what they may show.

A program runs on a fresh ``Bench`` and returns its outcome, a tuple of integers. ``delay`` stands
where a GPU is made slow, so that what may happen late does happen late there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import torch

from assembler.accelerator import Device, rows_of, whole

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


class Bench:
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
                lambda: target.fill_(value), label=label, reads=(), writes=(whole(cell),)
            )

    def copy(self, stream, source, target, label="copy"):
        self.delay(stream)
        there, here = self.device.mapped(target), self.device.mapped(source)
        with self.device.on(stream):
            self.device.launch(
                lambda: there.copy_(here),
                label=label,
                reads=(whole(source),),
                writes=(whole(target),),
            )

    def event(self):
        return self.device.new_event(f"event{next(self._labels)}")

    def host_read(self, cell):
        """Read page-locked memory without synchronising."""
        self.device.host_access(label="host read", reads=(whole(cell),), writes=())
        return int(cell)

    def results(self, *cells):
        self.device.synchronize()
        return tuple(int(self.device.to_host(cell)) for cell in cells)


def no_wait(bench):
    x, seen = bench.cell(), bench.cell()
    bench.put(bench.a, x, 1)
    bench.copy(bench.b, x, seen)
    return bench.results(seen)


def event_wait(bench):
    x, seen, event = bench.cell(), bench.cell(), bench.event()
    bench.put(bench.a, x, 1)
    event.record(bench.a)
    bench.b.wait_event(event)
    bench.copy(bench.b, x, seen)
    return bench.results(seen)


def wait_before_record(bench):
    x, seen, event = bench.cell(), bench.cell(), bench.event()
    bench.b.wait_event(event)
    bench.put(bench.a, x, 1)
    event.record(bench.a)
    bench.copy(bench.b, x, seen)
    return (*bench.results(seen), int(event.query()))


def query_of_unrecorded_event(bench):
    event = bench.event()
    first = event.query()
    event.synchronize()
    return (int(first), int(event.query()))


def record_again(bench):
    """The wait comes after both records, so it waits for the second."""
    x, seen, event = bench.cell(), bench.cell(), bench.event()
    bench.put(bench.a, x, 1)
    event.record(bench.a)
    bench.put(bench.a, x, 2)
    event.record(bench.a)
    bench.b.wait_event(event)
    bench.copy(bench.b, x, seen)
    return bench.results(seen)


def wait_before_record_again(bench):
    """The wait keeps the mark it found: the second record does not move it."""
    x, seen, event = bench.cell(), bench.cell(), bench.event()
    bench.put(bench.a, x, 1)
    event.record(bench.a)
    bench.b.wait_event(event)
    bench.put(bench.a, x, 2)
    event.record(bench.a)
    bench.copy(bench.b, x, seen)
    return bench.results(seen)


def query_loop(bench):
    seen, event = bench.host_cell(), bench.event()
    bench.put(bench.a, seen, 1)
    event.record(bench.a)
    while not event.query():
        pass
    return (bench.host_read(seen),)


def query_once(bench):
    seen, event = bench.host_cell(), bench.event()
    bench.put(bench.a, seen, 1)
    event.record(bench.a)
    is_done = event.query()
    outcome = (int(is_done), bench.host_read(seen) if is_done else -1)
    bench.device.synchronize()
    return outcome


def host_read_after_event(bench):
    seen, event = bench.host_cell(), bench.event()
    bench.put(bench.a, seen, 1)
    event.record(bench.a)
    event.synchronize()
    return (bench.host_read(seen),)


def host_read_too_early(bench):
    seen = bench.host_cell()
    bench.put(bench.a, seen, 1)
    value = bench.host_read(seen)
    bench.device.synchronize()
    return (value,)


def default_stream_is_no_barrier(bench):
    x, seen = bench.cell(), bench.cell()
    bench.put(bench.default, x, 1)
    bench.copy(bench.a, x, seen)
    return bench.results(seen)


def side_stream_is_no_barrier(bench):
    x, seen = bench.cell(), bench.cell()
    bench.put(bench.a, x, 1)
    bench.copy(bench.default, x, seen)
    return bench.results(seen)


def diamond(bench):
    """One stream feeds two, whose results meet again."""
    x, y, z, seen = bench.cell(), bench.cell(), bench.cell(), bench.cell()
    start, left, right = bench.event(), bench.event(), bench.event()
    bench.put(bench.a, x, 1)
    start.record(bench.a)
    bench.b.wait_event(start)
    bench.c.wait_event(start)
    bench.copy(bench.b, x, y)
    bench.copy(bench.c, x, z)
    left.record(bench.b)
    right.record(bench.c)
    bench.default.wait_event(left)
    bench.default.wait_event(right)
    bench.copy(bench.default, y, seen)
    return bench.results(seen, z)


def diamond_with_one_side(bench):
    x, y, z, seen = bench.cell(), bench.cell(), bench.cell(), bench.cell()
    left = bench.event()
    bench.put(bench.b, y, 1)
    bench.put(bench.c, z, 1)
    left.record(bench.b)
    bench.default.wait_event(left)
    bench.copy(bench.default, y, x)
    bench.copy(bench.default, z, seen)
    return bench.results(x, seen)


def backup_then_overwrite(bench):
    x, backup, event = bench.cell(), bench.host_cell(), bench.event()
    bench.put(bench.default, x, 1)
    event.record(bench.default)
    bench.a.wait_event(event)
    bench.copy(bench.a, x, backup)
    event.record(bench.a)
    bench.default.wait_event(event)
    bench.put(bench.default, x, 2)
    return bench.results(backup, x)


def overwrite_during_backup(bench):
    x, backup, event = bench.cell(), bench.host_cell(), bench.event()
    bench.put(bench.default, x, 1)
    event.record(bench.default)
    bench.a.wait_event(event)
    bench.copy(bench.a, x, backup)
    bench.put(bench.default, x, 2)
    return bench.results(backup, x)


def _loaded_layers(bench, *, late):
    """Two layers are loaded; each is read after its event, or after the first one's if ``late``."""
    layers, seen = [bench.cell(), bench.cell()], [bench.cell(), bench.cell()]
    events = [bench.event(), bench.event()]
    for layer, event in zip(layers, events, strict=True):
        bench.put(bench.a, layer, 1)
        event.record(bench.a)
    for number in range(2):
        bench.default.wait_event(events[0 if late else number])
        bench.copy(bench.default, layers[number], seen[number])
    return bench.results(*seen)


def load_then_read_per_layer(bench):
    return _loaded_layers(bench, late=False)


def read_waits_for_another_layer(bench):
    return _loaded_layers(bench, late=True)


def rows_apart(bench):
    """Two streams write different rows of one buffer: no conflict, whatever the order."""
    device, table = bench.device, bench.device.zeros((2,), torch.int64)
    device.synchronize()
    for row, stream in enumerate((bench.a, bench.b)):
        bench.delay(stream)
        with device.on(stream):
            device.launch(
                lambda row=row: table[row : row + 1].fill_(row + 1),
                label="put row",
                reads=(),
                writes=(rows_of(table, lambda row=row: torch.tensor([row])),),
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
