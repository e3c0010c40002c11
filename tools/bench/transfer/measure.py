"""Times of transfers on one GPU, each beside a pinned copy of the same number of bytes."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch

from assembler.device.base import Stream
from assembler.device.cuda import CudaDevice
from assembler.host_pools.base import DevicePool, HostKVCache
from assembler.names import Direction, IoBackend
from tools.bench.transfer.figures import BothWays, PeerSpeed, Speed

_Timed = Callable[[], object]
_MOST_CYCLES_PER_S = 2e9
# Smaller transfers are measured more often: the host's time varies, and is much of theirs.
_SMALL_BYTES = 32 << 20
_ROUNDS_OF_SMALL = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Seconds of one piece of work.

    Attributes:
        device: from before its first launch until the GPU has done it.
        host: until everything was launched.
    """

    device: float
    host: float


class PageMoves:
    """One host pool, its device pool, and a backend that moves random pages between them.

    Args:
        device: the GPU.
        pools: device pool and host pool.
        backend: the backend.
        pages: pages that are moved.
        seed: of the choice of pages.

    Attributes:
        pools: device pool and host pool.
        bytes: bytes of all pages.
    """

    def __init__(
        self,
        device: CudaDevice,
        pools: tuple[DevicePool, HostKVCache],
        *,
        backend: IoBackend,
        pages: int,
        seed: int,
    ) -> None:
        self._device = device
        self.pools = pools
        self._pool, self._host = pools
        self._backend = backend
        self.streams = (device.new_stream("write"), device.new_stream("load"))
        draw = random.Random(seed)
        size = self._host.page_size
        sides = []
        for slot_num, first in ((self._host.size, 0), (self._pool.size, 1)):
            chosen = torch.tensor(draw.sample(range(first, first + slot_num // size), pages))
            sides.append((chosen[:, None] * size + torch.arange(size)).view(-1))
        is_kernel = backend is IoBackend.KERNEL
        placed = [device.to_device(slots) for slots in sides] if is_kernel else sides
        self._slots = {"host_indices": placed[0], "device_indices": placed[1]}
        device.synchronize()
        self.bytes = self._host.size_per_token * pages * size

    def layer_bytes(self) -> int:
        """Return the bytes that one layer has of what is moved."""
        return self.bytes // self._host.layer_num

    def backup(self) -> None:
        """Launch a backup of all layers."""
        self._host.backup_from_device_all_layer(
            device_pool=self._pool, io_backend=self._backend, **self._slots
        )

    def load(self, layers: int | None = None) -> None:
        """Launch a load, layer by layer; of the first layers only when a number is given."""
        for _ in self.load_layers(layers):
            pass

    def load_layers(self, layers: int | None = None) -> Iterator[int]:
        """Launch a load, and yield each layer once its load was asked for."""
        if layers is None:
            self._host.expect_load(device_pool=self._pool, io_backend=self._backend, **self._slots)
        for layer in range(self._host.layer_num if layers is None else layers):
            self._host.load_to_device_per_layer(
                device_pool=self._pool, layer_id=layer, io_backend=self._backend, **self._slots
            )
            yield layer

    @property
    def layer_num(self) -> int:
        """Layers of the pool."""
        return self._host.layer_num

    @property
    def slots(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Host slots and device slots, where the backend expects them."""
        return self._slots["host_indices"], self._slots["device_indices"]

    def work(self, direction: Direction) -> _Timed:
        """Return the launch of a transfer in a direction."""
        return self.backup if direction is Direction.BACKUP else self.load


class Meter:
    """Measures work on a GPU, and pinned copies beside it.

    Args:
        device: the GPU.
        rounds: measurements of each piece of work, after one that is not counted; ten times as many
            of transfers below 32 MB.
        most_bytes: bytes of the largest transfer.
    """

    def __init__(self, device: CudaDevice, *, rounds: int, most_bytes: int) -> None:
        self._device = device
        self._rounds = rounds
        # Both directions at once need memory of their own.
        self._on_device = [device.empty((most_bytes,), torch.uint8) for _ in range(2)]
        self._on_host = [
            device.host_empty((most_bytes,), torch.uint8, pin_memory=True) for _ in range(2)
        ]

    def copy(self, direction: Direction, size: int) -> _Timed:
        """Return a pinned copy of ``size`` bytes."""
        number = 0 if direction is Direction.BACKUP else 1
        inside, outside = self._on_device[number][:size], self._on_host[number][:size]
        src, dst = (inside, outside) if number == 0 else (outside, inside)
        return lambda: dst.copy_(src, non_blocking=True)

    def speed(self, subject: PageMoves, direction: Direction) -> Speed:
        """Measure a transfer, a pinned copy and torch's operations in turns."""
        work, ceiling = subject.work(direction), self.copy(direction, subject.bytes)
        stream = subject.streams[0]
        turns, queued = self._in_turns(work, ceiling, stream, size=subject.bytes)
        with self._without_fast_copies():
            portable = self.span(work, stream)
        first = [self.span(lambda: subject.load(1), stream) for _ in range(self._rounds)]
        layer = self.copy(Direction.LOAD, subject.layer_bytes())
        first_copy = [self.span(layer, stream) for _ in range(self._rounds)]
        ratios = [copy.device / mine.device for mine, copy in turns]
        return Speed(
            bytes=subject.bytes,
            gb_per_s=subject.bytes / median(mine.device for mine, _ in turns) / 1e9,
            ceiling_gb_per_s=subject.bytes / median(copy.device for _, copy in turns) / 1e9,
            ratio=median(ratios),
            ratio_low=min(ratios),
            ratio_high=max(ratios),
            queued_ratio=median(copy.device / mine.device for mine, copy in queued),
            torch_ratio=median(copy.device for _, copy in turns) / portable.device,
            host_ms=median(mine.host for mine, _ in turns) * 1e3,
            layer_bytes=subject.layer_bytes(),
            first_layer_ms=median(span.device for span in first) * 1e3,
            first_layer_ratio=median(
                copy.device / mine.device for mine, copy in zip(first, first_copy, strict=True)
            ),
        )

    def peer_speed(
        self, work: _Timed, direction: Direction, *, size: int, stream: Stream
    ) -> PeerSpeed:
        """Measure other work that moves bytes, and a pinned copy, in turns."""
        ceiling = self.copy(direction, size)
        turns, queued = self._in_turns(work, ceiling, stream, size=size)
        return PeerSpeed(
            gb_per_s=size / median(mine.device for mine, _ in turns) / 1e9,
            ratio=median(copy.device / mine.device for mine, copy in turns),
            queued_ratio=median(copy.device / mine.device for mine, copy in queued),
            host_ms=median(mine.host for mine, _ in turns) * 1e3,
        )

    def _in_turns(
        self, work: _Timed, ceiling: _Timed, stream: Stream, *, size: int
    ) -> tuple[list[tuple[Span, Span]], list[tuple[Span, Span]]]:
        """Measure work and a pinned copy in turns, from an idle GPU and launched ahead."""
        self.span(work, stream)
        self.span(ceiling, stream)
        rounds = self._rounds * (_ROUNDS_OF_SMALL if size < _SMALL_BYTES else 1)
        turns = [(self.span(work, stream), self.span(ceiling, stream)) for _ in range(rounds)]
        wait = max(mine.host for mine, _ in turns)
        queued = [
            (self._queued(work, stream, wait), self._queued(ceiling, stream, wait))
            for _ in range(rounds)
        ]
        return turns, queued

    def both_ways(self, one: PageMoves, other: PageMoves) -> BothWays:
        """Measure a backup and a load at once, and two pinned copies at once."""
        size = min(one.bytes, other.bytes)
        copies = (self.copy(Direction.BACKUP, size), self.copy(Direction.LOAD, size))
        streams = one.streams
        works = (one.backup, other.load)
        self._together(works, streams, 0.0)
        self._together(copies, streams, 0.0)
        turns = [
            (self._together(works, streams, 0.0), self._together(copies, streams, 0.0))
            for _ in range(self._rounds)
        ]
        wait = sum(
            self.span(work, stream).host for work, stream in zip(works, streams, strict=True)
        )
        queued = [
            (self._together(works, streams, wait), self._together(copies, streams, wait))
            for _ in range(self._rounds)
        ]
        ratios = [copy / mine for mine, copy in turns]
        return BothWays(
            gb_per_s=2 * size / median(mine for mine, _ in turns) / 1e9,
            ceiling_gb_per_s=2 * size / median(copy for _, copy in turns) / 1e9,
            ratio=median(ratios),
            ratio_low=min(ratios),
            ratio_high=max(ratios),
            queued_ratio=median(copy / mine for mine, copy in queued),
        )

    def slow_down(self, works: Sequence[_Timed], stream: Stream) -> float:
        """Return how much longer matrix products take while ``works`` run on ``stream``."""
        side = torch.randn(8192, 8192, device=self._device.torch_device, dtype=torch.bfloat16)
        out = torch.empty_like(side)
        compute = self._device.new_stream("compute")

        def products() -> None:
            for _ in range(12):
                torch.mm(side, side, out=out)

        self.span(products, compute)
        alone = median(self.span(products, compute).device for _ in range(self._rounds))
        beside = []
        for _ in range(self._rounds):
            with self._device.on(stream):
                for work in works:
                    work()
            beside.append(self.span(products, compute).device)
            self._device.synchronize()
        return median(beside) / alone

    def span(self, work: _Timed, stream: Stream) -> Span:
        """Measure work on a stream, once."""
        return self._queued(work, stream, 0.0)

    def _queued(self, work: _Timed, stream: Stream, wait: float) -> Span:
        """Measure work that waits on the GPU for some seconds, in which the host launches it."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with self._device.on(stream):
            self._occupy(wait)
            begin.record()
            start = time.perf_counter()
            work()
            host = time.perf_counter() - start
            end.record()
        end.synchronize()
        return Span(device=float(begin.elapsed_time(end)) / 1e3, host=host)

    def _occupy(self, seconds: float) -> None:
        """Keep the current stream busy for a time that is longer, at any clock of the GPU."""
        if seconds:
            cycles = int((1.3 * seconds + 3e-4) * _MOST_CYCLES_PER_S)
            torch.cuda._sleep(cycles)  # noqa: SLF001 - what torch's own tests do this with

    def _together(self, works: Sequence[_Timed], streams: Sequence[Stream], wait: float) -> float:
        """Return the seconds until all work is done; ``wait`` as in :meth:`_queued`."""
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        started, done = (self._device.new_event(name) for name in ("started", "done"))
        self._device.synchronize()
        with self._device.on(streams[0]):
            self._occupy(wait)
            begin.record()
        started.record(streams[0])
        streams[1].wait_event(started)
        for work, stream in zip(works, streams, strict=True):
            with self._device.on(stream):
                work()
        done.record(streams[1])
        with self._device.on(streams[0]):
            streams[0].wait_event(done)
            end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    @contextmanager
    def _without_fast_copies(self) -> Iterator[None]:
        self._device.has_fast_copies = False
        try:
            yield
        finally:
            self._device.has_fast_copies = True
