"""The figures of transfers as lines of text."""

from collections.abc import Iterator

from tools.bench.transfer.figures import ForwardRow, TransferReport

_HEAD = (
    "pool     backend  layout             direction  pages      MB   GB/s  ratio      (range)  "
    "queued  torch  host ms  first layer"
)


def speed_lines(report: TransferReport) -> Iterator[str]:
    """Yield a table of all transfers, then those in both directions, then the slow-downs."""
    machine = report.machine
    yield f"{machine['device_name']}, driver {machine['driver']}, torch {machine['torch']}"
    yield f"ratio: speed over that of a pinned copy of as many bytes; median of {report.rounds}"
    yield "queued: the same where all is launched before the GPU begins, without the host's time"
    yield ""
    yield _HEAD
    for row in report.rows:
        speed = row.speed
        spread = f"({speed.ratio_low:.2f}-{speed.ratio_high:.2f})"
        yield (
            f"{row.pool:<8} {row.backend:<8} {row.layout:<18} {row.direction:<9} {row.pages:>6} "
            f"{speed.bytes / 1e6:>7.1f} {speed.gb_per_s:>6.1f} {speed.ratio:>6.2f} {spread:>12} "
            f"{speed.queued_ratio:>7.2f} {speed.torch_ratio:>6.2f} {speed.host_ms:>8.2f} "
            f"{speed.first_layer_ratio:>12.2f}"
        )
    yield ""
    yield "both directions at once, over two pinned copies at once"
    for both in report.both_ways:
        speeds = both.speed
        spread = f"({speeds.ratio_low:.2f}-{speeds.ratio_high:.2f})"
        yield (
            f"{both.pool:<8} {both.backend:<8} {both.layout:<18} {both.pages:>6} pages "
            f"{speeds.gb_per_s:>6.1f} GB/s {speeds.ratio:>6.2f} {spread:>12} "
            f"{speeds.queued_ratio:>7.2f}"
        )
    yield ""
    yield "matrix products beside a backup: time over time alone"
    for one in report.slow_downs:
        limit = f", at most {one.programs} multiprocessors" if one.programs else ""
        yield f"{one.factor:.3f}  {one.beside}{limit}"
    yield ""
    yield "a pass of matrix products over all layers, in ms"
    yield from map(_forward_line, report.forward)
    yield ""
    for peer in report.peers:
        yield (
            f"{peer.package} {peer.version}: {peer.pool:<8} {peer.backend:<8} {peer.layout:<12} "
            f"{peer.direction:<7} {peer.speed.gb_per_s:>6.1f} GB/s {peer.speed.ratio:>6.2f} "
            f"{peer.speed.queued_ratio:>6.2f} queued, host {peer.speed.host_ms:.2f} ms"
        )
    for memory in report.host_memory:
        yield (
            f"{memory.bytes >> 30} GiB of page-locked memory: {memory.ours_s:.2f} s (first "
            f"{memory.first_s:.2f} s), cuMemHostAlloc {memory.driver_s:.2f} s"
        )


def _forward_line(row: ForwardRow) -> str:
    times = row.times
    return (
        f"{row.pool:<8} {row.backend:<8} {row.layout:<18} {row.pages:>6} pages  "
        f"load {times.load_ms:.2f}  first layer {times.first_layer_ms:.2f}  "
        f"pass alone {times.alone_ms:.2f}  behind the load {times.behind_ms:.2f}  "
        f"with it {times.overlapped_ms:.2f}"
    )
