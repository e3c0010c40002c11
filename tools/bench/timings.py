"""Timings inside one process. Everything that imports torch does so when it is called."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
from statistics import median

import msgspec

from traces.diff import compare_sides
from traces.schema.canonical import render
from traces.schema.model import SCHEMA, Event, Outcome, Recording, ScenarioRecord, Trace, Transfer
from traces.targets.common.scenario import Scenario

SIZES = (10_000, 100_000)

_LAYERS = 61
_WARM_UP_ROUNDS = 2


class RecorderTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds for running all scenarios, one number a round.

    Attributes:
        before: unrecorded, before anything was ever recorded in the process.
        recorded: recorded, each just after its partner in ``unrecorded``.
        unrecorded: not recorded, after recordings have ended.
    """

    before: list[float]
    recorded: list[float]
    unrecorded: list[float]


def unrecorded_seconds(scenarios: Sequence[Scenario], device: str) -> float:
    """Return the seconds of running scenarios once, unrecorded, without the import."""
    from traces.targets.native.run import run_unrecorded

    _use_one_thread()
    start = time.perf_counter()
    for scenario in scenarios:
        run_unrecorded(scenario, device=device)
    return time.perf_counter() - start


def recorder_times(scenarios: Sequence[Scenario], device: str, rounds: int) -> RecorderTimes:
    """Time the same scenarios recorded and not, taking turns, in one process."""
    from traces.targets.native.run import run_scenario, run_unrecorded

    _use_one_thread()

    def without() -> None:
        for scenario in scenarios:
            run_unrecorded(scenario, device=device)

    def recorded() -> None:
        for scenario in scenarios:
            run_scenario(scenario, device=device)

    for _ in range(_WARM_UP_ROUNDS):
        without()
    before = [_seconds(without) for _ in range(rounds)]
    recorded()
    turns = [(_seconds(without), _seconds(recorded)) for _ in range(rounds)]
    return RecorderTimes(
        before=before,
        recorded=[seconds for _, seconds in turns],
        unrecorded=[seconds for seconds, _ in turns],
    )


def device_times(
    scenarios: Sequence[Scenario], one: str, other: str, rounds: int
) -> list[tuple[float, float]]:
    """Time the same scenarios recorded on two devices, taking turns, in one process."""
    from traces.targets.native.run import run_scenario

    _use_one_thread()

    def run_all(device: str) -> None:
        for scenario in scenarios:
            run_scenario(scenario, device=device)

    run_all(one)
    run_all(other)
    return [
        (_seconds(partial(run_all, one)), _seconds(partial(run_all, other))) for _ in range(rounds)
    ]


def encode_seconds(rounds: int) -> list[float]:
    """Return the seconds that the canonical text of a trace takes, for each of ``SIZES``."""
    traces = [_long_trace(size, skipped=-1) for size in SIZES]
    return [_median_seconds(partial(render, trace), rounds=rounds) for trace in traces]


def diff_seconds(rounds: int) -> list[float]:
    """Return the seconds that finding one lost event takes, for each of ``SIZES``."""
    found: list[float] = []
    for size in SIZES:
        base = Recording(trace=_long_trace(size, skipped=-1), sites=None)
        head = Recording(trace=_long_trace(size, skipped=size // 2), sites=None)
        work = partial(compare_sides, {"long": base}, {"long": head})
        found.append(_median_seconds(work, rounds=rounds))
    return found


def _long_trace(events: int, *, skipped: int) -> Trace:
    """Layer by layer backups of page after page, as a long run has them; one of them left out."""
    layers = enumerate(islice(cycle(range(_LAYERS)), events))
    kept: tuple[Event, ...] = tuple(
        _transfer(number, layer=layer) for number, layer in layers if number != skipped
    )
    return Trace(
        schema=SCHEMA,
        scenario=ScenarioRecord(name="long", config={}),
        calls=(),
        tensors=(),
        events=kept,
        digests=(),
        outcome=Outcome(ok=True, failed_step="", failure=None),
    )


def _transfer(number: int, *, layer: int) -> Transfer:
    first = number // _LAYERS * 64
    return Transfer(
        step="write",
        direction="backup",
        pool="KV",
        device_pool="KV",
        plane="kv",
        layer=layer,
        device_slots=f"{first + 64}-{first + 127}",
        host_slots=f"{first}-{first + 63}",
        rows=64,
        row_bytes=656,
        bytes=64 * 656,
        backend="kernel",
        stream="write",
    )


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _median_seconds(work: Callable[[], object], *, rounds: int) -> float:
    return median(_seconds(work) for _ in range(rounds))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
