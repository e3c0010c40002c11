"""The benchmark of transfers: every pool, layout, backend, direction and number of pages."""

from collections.abc import Sequence
from contextlib import suppress

from assembler.device import get_device
from assembler.device.base import Device
from assembler.device.cuda import CudaDevice
from assembler.host_pools.base import DevicePool, HostKVCache
from assembler.names import Direction, HostLayout, IoBackend
from tools.bench.transfer.figures import (
    SCHEMA,
    BothWaysRow,
    ForwardRow,
    PeerRow,
    SlowDown,
    SpeedRow,
    TransferReport,
)
from tools.bench.transfer.forward import ForwardBenchmark
from tools.bench.transfer.hicache_peer import (
    HICACHE_CHOICES,
    HicacheMoves,
    find_hicache,
    hicache_version,
)
from tools.bench.transfer.host_memory import time_host_memory
from tools.bench.transfer.measure import Meter, PageMoves
from tools.bench.transfer.peers import PEER_CHOICES, PeerMoves, PoolRows, find_peer, peer_version
from tools.bench.transfer.pools import POOLS, MeasuredPool, host_arguments, moved_pages
from tools.errors import ToolError
from tools.workers.hardware import read_provenance

# A seed for what is moved alone or to the host, another for what comes back at the same time.
_SEEDS = (0, 1)
_PROGRAMS = (8, 16, 32)
_SLOW_DOWN_REPEATS = 4


def bench_transfers(
    names: Sequence[str],
    *,
    device: str,
    page_counts: Sequence[int],
    rounds: int,
    host_gigabytes: int = 0,
) -> TransferReport:
    """Measure the transfers of pools on a GPU, and allocations of host memory of a size.

    Raises:
        ToolError: the device is no GPU, or a pool is unknown.
    """
    accelerator = _open_gpu(device)
    unknown = sorted(set(names) - set(POOLS))
    if unknown:
        raise ToolError("pool", "must be known", expected=", ".join(POOLS), got=unknown[0])
    rows: list[SpeedRow] = []
    both_ways: list[BothWaysRow] = []
    slow_downs: list[SlowDown] = []
    forward: list[ForwardRow] = []
    peers: list[PeerRow] = []
    for name in names:
        measured = PoolBenchmark(accelerator, name, page_counts=page_counts, rounds=rounds)
        rows += measured.rows()
        both_ways += measured.both_ways()
        forward += measured.forward()
        peers += measured.peers()
        if not slow_downs:
            slow_downs = measured.slow_downs()
    return TransferReport(
        schema=SCHEMA,
        machine=read_provenance(device),
        rounds=rounds,
        titles={name: POOLS[name].title for name in names},
        rows=rows,
        both_ways=both_ways,
        slow_downs=slow_downs,
        forward=forward,
        peers=peers,
        host_memory=[time_host_memory(accelerator, host_gigabytes)] if host_gigabytes else [],
    )


class PoolBenchmark:
    """The measurements of one pool.

    Args:
        device: the GPU.
        name: key of the pool in ``POOLS``.
        page_counts: pages of 64 tokens that are moved.
        rounds: measurements of each figure.
    """

    def __init__(
        self, device: CudaDevice, name: str, *, page_counts: Sequence[int], rounds: int
    ) -> None:
        self._device = device
        self._name = name
        self._page_counts = sorted(page_counts)
        self._measured = POOLS[name]
        # Half as many pages again, so that random ones do not lie side by side.
        most = moved_pages(self._measured, self._page_counts[-1])
        self._pool = self._measured.make_device(
            (most + max(1, most // 2)) * self._measured.page_size, device
        )
        host = self._host(self._measured.choices[0][1])
        bytes_per_page = host.size_per_token * host.page_size
        self._meter = Meter(device, rounds=rounds, most_bytes=most * bytes_per_page)
        self._rounds = rounds

    def rows(self) -> list[SpeedRow]:
        """Measure every layout, backend, number of pages and direction."""
        found = []
        for backend, layout in self._measured.choices:
            host = self._host(layout)
            for pages in self._page_counts:
                subject = self._subject(host, backend, pages, seed=_SEEDS[0])
                for direction in Direction:
                    speed = self._meter.speed(subject, direction)
                    found.append(
                        SpeedRow(
                            pool=self._name,
                            layout=layout.value,
                            backend=backend.value,
                            direction=direction.value,
                            pages=pages,
                            speed=speed,
                        )
                    )
        return found

    def both_ways(self) -> list[BothWaysRow]:
        """Measure both directions at once, with the largest number of pages."""
        found = []
        pages = self._page_counts[-1]
        for backend, layout in self._measured.choices:
            host = self._host(layout)
            one, other = (self._subject(host, backend, pages, seed=seed) for seed in _SEEDS)
            found.append(
                BothWaysRow(
                    pool=self._name,
                    layout=layout.value,
                    backend=backend.value,
                    pages=pages,
                    speed=self._meter.both_ways(one, other),
                )
            )
        return found

    def forward(self) -> list[ForwardRow]:
        """Measure passes that use layers while they are loaded, with most pages."""
        measured = ForwardBenchmark(self._device, self._meter, rounds=self._rounds)
        pages = self._page_counts[-1]
        found = []
        for backend, layout in self._measured.choices[::2]:
            subject = self._subject(self._host(layout), backend, pages, seed=_SEEDS[0])
            found.append(
                ForwardRow(
                    pool=self._name,
                    layout=layout.value,
                    backend=backend.value,
                    pages=pages,
                    times=measured.measure(subject),
                )
            )
        return found

    def peers(self) -> list[PeerRow]:
        """Measure SGLang's kernels, where they are installed, on pools of token rows."""
        if not self._measured.has_token_rows:
            return []
        found: list[PeerRow] = []
        peer, kernels = find_peer(), find_hicache()
        for backend, layout in PEER_CHOICES if peer else ():
            assert peer is not None
            subject = self._largest_subject(backend, layout)
            moves = PeerMoves(peer, subject.pools, slots=subject.slots, backend=backend)
            found += self._peer_rows(moves, peer_version(), subject, layout, backend)
        for backend, layout in HICACHE_CHOICES if kernels else ():
            assert kernels is not None
            subject = self._largest_subject(backend, layout)
            compiled = HicacheMoves(kernels, subject.pools, slots=subject.slots)
            found += self._peer_rows(compiled, hicache_version(), subject, layout, backend)
        return found

    def _largest_subject(self, backend: IoBackend, layout: HostLayout) -> PageMoves:
        pages = self._page_counts[-1]
        return self._subject(self._host(layout), backend, pages, seed=_SEEDS[0])

    def _peer_rows(
        self,
        moves: PoolRows,
        version: str,
        subject: PageMoves,
        layout: HostLayout,
        backend: IoBackend,
    ) -> list[PeerRow]:
        moves.check()
        return [
            PeerRow(
                package=moves.package,
                version=version,
                pool=self._name,
                layout=layout.value,
                backend=backend.value,
                direction=direction.value,
                pages=self._page_counts[-1],
                speed=self._meter.peer_speed(
                    moves.work(direction),
                    direction,
                    size=subject.bytes,
                    stream=subject.streams[0],
                ),
            )
            for direction in Direction
        ]

    def slow_downs(self) -> list[SlowDown]:
        """Measure matrix products beside a pinned copy and beside backups."""
        pages = self._page_counts[-1]
        host = self._host(HostLayout.LAYER_FIRST)
        direct = self._subject(host, IoBackend.DIRECT, pages, seed=_SEEDS[0])
        kernel = self._subject(host, IoBackend.KERNEL, pages, seed=_SEEDS[0])
        stream = direct.streams[0]
        copies = [self._meter.copy(Direction.BACKUP, direct.bytes)] * _SLOW_DOWN_REPEATS
        found = [
            SlowDown(
                beside="pinned copy", programs=0, factor=self._meter.slow_down(copies, stream)
            ),
            SlowDown(
                beside="direct",
                programs=0,
                factor=self._meter.slow_down([direct.backup] * _SLOW_DOWN_REPEATS, stream),
            ),
        ]
        usual = self._device.copy_programs
        for programs in _PROGRAMS:
            self._device.copy_programs = programs
            factor = self._meter.slow_down([kernel.backup] * _SLOW_DOWN_REPEATS, stream)
            found.append(SlowDown(beside="kernel", programs=programs, factor=factor))
        self._device.copy_programs = usual
        return found

    def _subject(
        self, host: HostKVCache, backend: IoBackend, pages: int, *, seed: int
    ) -> PageMoves:
        pools: tuple[DevicePool, HostKVCache] = (self._pool, host)
        moved = moved_pages(self._measured, pages)
        return PageMoves(self._device, pools, backend=backend, pages=moved, seed=seed)

    def _host(self, layout: HostLayout) -> HostKVCache:
        measured: MeasuredPool = self._measured
        return measured.make_host(self._pool, host_arguments(measured, layout, self._device))


def _open_gpu(device: str) -> CudaDevice:
    opened: Device | None = None
    if device.startswith("cuda"):
        # Raised where there is no such GPU.
        with suppress(ValueError):
            opened = get_device(device)
    if not isinstance(opened, CudaDevice):
        raise ToolError("bench transfer", "needs a GPU", expected="a visible GPU", got=device)
    return opened
