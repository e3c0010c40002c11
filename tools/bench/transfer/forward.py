"""A forward pass that uses layers in order while they are loaded."""

from collections.abc import Callable
from functools import partial
from statistics import median

import torch

from assembler.device.base import Event
from assembler.device.cuda import CudaDevice
from tools.bench.transfer.figures import PassTimes
from tools.bench.transfer.measure import Meter, PageMoves

# The sides of a matrix product, of which a layer has as many as take about as long as its load.
_SIDE = 4096
_TIMED_PRODUCTS = 20


class ForwardBenchmark:
    """Times of a pass over the layers of a pool.

    Args:
        device: the GPU.
        meter: measures on it.
        rounds: measurements of each time.
    """

    def __init__(self, device: CudaDevice, meter: Meter, *, rounds: int) -> None:
        self._device = device
        self._meter = meter
        self._rounds = rounds
        self._compute = device.new_stream("compute")
        shape = (_SIDE, _SIDE)
        self._side = torch.randn(shape, device=device.torch_device, dtype=torch.bfloat16)
        self._out = torch.empty_like(self._side)

    def measure(self, subject: PageMoves) -> PassTimes:
        """Return the times of a pass without a load, behind a load, and layer by layer with it."""
        stream = subject.streams[0]
        load = self._median(lambda: self._meter.span(subject.load, stream).device)
        one = self._time_products(_TIMED_PRODUCTS) / _TIMED_PRODUCTS
        count = max(1, round(load / subject.layer_num / one))
        events = {
            layer: self._device.new_event(f"layer{layer}") for layer in range(subject.layer_num)
        }
        last = subject.layer_num - 1
        at_once = {last: events[last]}
        first = {0: events[0]}
        return PassTimes(
            layers=subject.layer_num,
            products=count,
            load_ms=load * 1e3,
            first_layer_ms=self._median(lambda: self._pass(subject, first, 0)) * 1e3,
            alone_ms=self._time_products(count * subject.layer_num) * 1e3,
            behind_ms=self._median(lambda: self._pass(subject, at_once, count)) * 1e3,
            overlapped_ms=self._median(lambda: self._pass(subject, events, count)) * 1e3,
        )

    def _pass(self, subject: PageMoves, waits: dict[int, Event], count: int) -> float:
        """Return the seconds until a pass is done that begins together with a load.

        ``waits`` are layers of the load, with the event that is recorded after each; a layer of the
        pass waits for the next of them.
        """
        stream, compute = subject.streams[0], self._compute
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._device.synchronize()
        with self._device.on(stream):
            begin.record()
            for layer in subject.load_layers():
                if layer in waits:
                    waits[layer].record(stream)
        with self._device.on(compute):
            for layer in range(max(waits) + 1):
                compute.wait_event(waits[min(number for number in waits if number >= layer)])
                self._products(count)
            end.record()
        end.synchronize()
        self._device.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    def _time_products(self, count: int) -> float:
        work = partial(self._products, count)
        return self._median(lambda: self._meter.span(work, self._compute).device)

    def _products(self, count: int) -> None:
        for _ in range(count):
            torch.mm(self._side, self._side, out=self._out)

    def _median(self, measure: Callable[[], float]) -> float:
        measure()
        return median(measure() for _ in range(self._rounds))
