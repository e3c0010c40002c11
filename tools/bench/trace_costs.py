"""Time and memory of long traces: recorded, encoded, decoded and compared.

Nothing here imports torch before it is called.
"""

import math
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from tools.bench.ratios import run_in_new_process
from tools.bench.small_pool import small_mha_pool
from traces import record
from traces.diff import compare_sides
from traces.schema.canonical import parse, render
from traces.schema.model import Outcome, Recording

STAGES = ("record", "encode", "decode", "diff")

_Result = TypeVar("_Result")
_ROWS = 4


class StageCost(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of one stage.

    Attributes:
        seconds: of the processor.
        bytes: by which the largest memory of the process so far has grown.
    """

    seconds: float
    bytes: int


def bench_traces(sizes: Sequence[int]) -> dict[str, Any]:
    """Measure traces of these numbers of events, each in a process of its own.

    An exponent is the power of the number of events with which the time grows: 1 is linear.
    """
    measured = {size: run_in_new_process(trace_costs, size) for size in sizes}
    found: dict[str, Any] = {"events": list(sizes)}
    for stage in STAGES:
        costs = [measured[size][stage] for size in sizes]
        found[f"{stage}_microseconds_per_event"] = [
            round(cost.seconds / size * 1e6, 3) for size, cost in zip(sizes, costs, strict=True)
        ]
        found[f"{stage}_bytes_per_event"] = [
            round(cost.bytes / size) for size, cost in zip(sizes, costs, strict=True)
        ]
        found[f"{stage}_exponent"] = fitted_exponent(sizes, [cost.seconds for cost in costs])
    return found


def fitted_exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the slope of the least-squares line through the logarithms."""
    points = [(math.log(size), math.log(value)) for size, value in zip(sizes, seconds, strict=True)]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return above / sum((x - mean_x) ** 2 for x, _ in points)


def trace_costs(events: int) -> dict[str, StageCost]:
    """Record a run with that many transfers, then encode, decode and compare its trace.

    The cost of recording is what a recorded run takes more than one that is not recorded.
    """
    run = _transfers(events)
    run()
    _, bare = _cost(run)
    recording, recorded = _cost(lambda: _record(run))
    text, encoded = _cost(lambda: render(recording.trace))
    _, decoded = _cost(lambda: parse(text))
    lost = _without_event(recording, events // 2)
    _, compared = _cost(lambda: compare_sides({"long": recording}, {"long": lost}))
    extra = max(recorded.seconds - bare.seconds, 0.0)
    return {
        "record": StageCost(seconds=extra, bytes=recorded.bytes),
        "encode": encoded,
        "decode": decoded,
        "diff": compared,
    }


def _transfers(events: int) -> Callable[[], None]:
    """Return a run that loads one layer of keys and values again and again."""
    import torch

    from assembler.device import get_device
    from assembler.host_pools.mha import MHATokenToKVPoolHost

    torch.set_num_threads(1)
    slots = torch.arange(_ROWS)

    def run() -> None:
        device = get_device("cpu")
        pool = small_mha_pool(device, size=8 * _ROWS, page_size=_ROWS)
        host = MHATokenToKVPoolHost(
            device_pool=pool,
            host_to_device_ratio=2.0,
            host_size=0,
            page_size=_ROWS,
            layout="layer_first",
            pin_memory=True,
            device=device,
            allocator_type=None,
        )
        for _ in range(events // 2):
            host.load_to_device_per_layer(
                device_pool=pool,
                host_indices=slots,
                device_indices=slots + _ROWS,
                layer_id=0,
                io_backend="kernel",
            )

    return run


def _record(run: Callable[[], None]) -> Recording:
    from traces.targets.native.target import NativeTarget

    with record(target=NativeTarget()) as recorder:
        recorder.scenario("long", {})
        with recorder.step("load"):
            run()
        recorder.outcome(Outcome(ok=True, failed_step="", failure=None))
    return recorder.recording


def _without_event(recording: Recording, number: int) -> Recording:
    events = recording.trace.events
    trace = msgspec.structs.replace(
        recording.trace, events=(*events[:number], *events[number + 1 :])
    )
    return Recording(trace=trace, sites=None)


def _cost(work: Callable[[], _Result]) -> tuple[_Result, StageCost]:
    memory, start = _largest_bytes(), time.process_time()
    result = work()
    seconds = time.process_time() - start
    return result, StageCost(seconds=seconds, bytes=_largest_bytes() - memory)


def _largest_bytes() -> int:
    # Linux counts in units of 1024 bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
