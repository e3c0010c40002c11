"""Figures of transfers, as the report of the benchmark has them."""

import msgspec

SCHEMA = "goldentrace.bench.transfer/4"


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Speed of one transfer beside a pinned copy of as many bytes; medians over the rounds.

    Attributes:
        bytes: bytes that are moved.
        gb_per_s: of the transfer.
        ceiling_gb_per_s: of the pinned copy.
        ratio: of the two, round by round.
        ratio_low: smallest of the rounds.
        ratio_high: largest.
        queued_ratio: of the two where everything is launched before the GPU begins, as behind a
            forward pass: the share of the wire without the host's time, with its median.
        torch_ratio: the same by torch's operations alone, once.
        host_ms: until all copies are launched.
        layer_bytes: bytes of a layer.
        first_layer_ms: until the first layer of a load has arrived.
        first_layer_ratio: against a pinned copy of ``layer_bytes``.
    """

    bytes: int
    gb_per_s: float
    ceiling_gb_per_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    queued_ratio: float
    torch_ratio: float
    host_ms: float
    layer_bytes: int
    first_layer_ms: float
    first_layer_ratio: float


class BothWays(msgspec.Struct, frozen=True, kw_only=True):
    """Speed of a backup and a load at once, beside two pinned copies at once; see Speed."""

    gb_per_s: float
    ceiling_gb_per_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    queued_ratio: float


class SpeedRow(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of one pool, layout, backend and direction; ``pages`` are of 64 tokens."""

    pool: str
    layout: str
    backend: str
    direction: str
    pages: int
    speed: Speed


class BothWaysRow(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of one pool, layout and backend in both directions at once."""

    pool: str
    layout: str
    backend: str
    pages: int
    speed: BothWays


class SlowDown(msgspec.Struct, frozen=True, kw_only=True):
    """The time that matrix products take while a backup runs, over the time that they take alone.

    Attributes:
        beside: ``pinned copy``, or the backend of the backup.
        programs: multiprocessors that the backup may use at most; 0 where it uses none.
        factor: the ratio.
    """

    beside: str
    programs: int
    factor: float


class PassTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Times of a pass over all layers that are loaded, in milliseconds.

    Attributes:
        layers: layers of the pool.
        products: matrix products of a layer of the pass, as many as take about as long as its load.
        load_ms: the load alone.
        first_layer_ms: until a pass can begin that waits for the first layer; one host thread
            launches the whole load before the pass, as a controller does.
        alone_ms: the pass alone.
        behind_ms: the load, then the pass.
        overlapped_ms: both, each layer of the pass waiting for its own load.
    """

    layers: int
    products: int
    load_ms: float
    first_layer_ms: float
    alone_ms: float
    behind_ms: float
    overlapped_ms: float


class ForwardRow(msgspec.Struct, frozen=True, kw_only=True):
    """A forward pass over one pool, layout and backend; ``pages`` are of 64 tokens."""

    pool: str
    layout: str
    backend: str
    pages: int
    times: PassTimes


class PeerSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of another package's kernels; see :class:`Speed`."""

    gb_per_s: float
    ratio: float
    queued_ratio: float
    host_ms: float


class PeerRow(msgspec.Struct, frozen=True, kw_only=True):
    """The speed of another package's kernels on one pool, layout and direction."""

    package: str
    version: str
    pool: str
    layout: str
    backend: str
    direction: str
    pages: int
    speed: PeerSpeed


class HostMemoryTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds to allocate page-locked host memory.

    Attributes:
        bytes: how much.
        first_s: our first allocation, before the machine has used so much memory.
        ours_s: our second one: huge pages, touched by several threads, then registered.
        driver_s: ``cuMemHostAlloc`` after it.
    """

    bytes: int
    first_s: float
    ours_s: float
    driver_s: float


class TransferReport(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one run.

    Attributes:
        schema: ``goldentrace.bench.transfer/4``.
        machine: device, driver and versions.
        rounds: measurements of which each figure is the median.
        titles: dimensions of the pools, by name.
        rows: transfers in one direction.
        both_ways: transfers in both directions at once.
        slow_downs: of matrix products.
        forward: passes that use layers while they are loaded.
        peers: other packages' kernels, where they are installed.
        host_memory: allocations; none where none was asked for.
    """

    schema: str
    machine: dict[str, str]
    rounds: int
    titles: dict[str, str]
    rows: list[SpeedRow]
    both_ways: list[BothWaysRow]
    slow_downs: list[SlowDown]
    forward: list[ForwardRow]
    peers: list[PeerRow]
    host_memory: list[HostMemoryTimes]
