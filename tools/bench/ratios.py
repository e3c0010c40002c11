"""Speed of the gate and cost of recording, as ratios: seconds differ between machines.

Nothing here imports torch before it is called.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar

import msgspec

from tools.errors import ToolError, one_line
from tools.sides.environments.cache import CACHE_VARIABLE
from traces.diff import compare_sides
from traces.schema.canonical import render
from traces.schema.model import SCHEMA, Event, Outcome, Recording, ScenarioRecord, Trace, Transfer
from traces.targets.common.scenario import Scenario

SIZES = (10_000, 100_000)

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_LAYERS = 61
_WARM_UP_ROUNDS = 2


class RecorderTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds for running all scenarios, one number a round.

    Attributes:
        before: unrecorded, before anything was ever recorded in the process.
        recorded: recorded, each scenario just after it was run unrecorded.
        unrecorded: not recorded, after recordings have ended.
    """

    before: list[float]
    recorded: list[float]
    unrecorded: list[float]


def unrecorded_seconds(scenarios: Sequence[Scenario], device: str) -> float:
    """Return the seconds of running scenarios once, unrecorded, without the import."""
    from traces.targets.native.run import run_unrecorded

    _use_one_thread()
    return _seconds(partial(_run_all, run_unrecorded, scenarios, device))


def recorder_times(scenarios: Sequence[Scenario], device: str, rounds: int) -> RecorderTimes:
    """Time scenarios recorded and not, each scenario both ways in turns, in one process."""
    from traces.targets.native.run import run_scenario, run_unrecorded

    _use_one_thread()
    without = partial(_run_all, run_unrecorded, scenarios, device)
    for _ in range(_WARM_UP_ROUNDS):
        without()
    before = [_seconds(without) for _ in range(rounds)]
    _run_all(run_scenario, scenarios, device)
    recorded, unrecorded = [], []
    for _ in range(rounds):
        turns = [
            [_seconds(partial(run, one, device=device)) for run in (run_unrecorded, run_scenario)]
            for one in scenarios
        ]
        unrecorded.append(sum(seconds for seconds, _ in turns))
        recorded.append(sum(seconds for _, seconds in turns))
    return RecorderTimes(before=before, recorded=recorded, unrecorded=unrecorded)


def device_times(
    scenarios: Sequence[Scenario], one: str, other: str, rounds: int
) -> list[tuple[float, float]]:
    """Time the same scenarios recorded on two devices, taking turns, in one process."""
    from traces.targets.native.run import run_scenario

    _use_one_thread()
    on_one, on_other = (
        partial(_run_all, run_scenario, scenarios, device) for device in (one, other)
    )
    on_one()
    on_other()
    return [(_seconds(on_one), _seconds(on_other)) for _ in range(rounds)]


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


def _run_all(run: Callable[..., object], scenarios: Sequence[Scenario], device: str) -> None:
    for scenario in scenarios:
        run(scenario, device=device)


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _median_seconds(work: Callable[[], object], *, rounds: int) -> float:
    return median(_seconds(work) for _ in range(rounds))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bench_gate(
    root: Path, *, scenarios: Sequence[Scenario], device: str, rounds: int, arguments: Sequence[str]
) -> dict[str, Any]:
    """Time the whole gate against bare runs of the same scenarios, in turns.

    The gate runs everything twice and compares; a bare run is one process that starts, imports the
    target and runs every scenario once without a recorder.

    Raises:
        ToolError: the gate could not judge.
    """
    gates: list[float] = []
    bares: list[float] = []
    runs: list[float] = []
    for _ in range(rounds):
        start = time.perf_counter()
        runs.append(run_in_new_process(unrecorded_seconds, list(scenarios), device))
        bares.append(time.perf_counter() - start)
        gates.append(gate_seconds(root, device=device, arguments=arguments))
    ratios = [gate / bare for gate, bare in zip(gates, bares, strict=True)]
    return {
        "rounds": rounds,
        "scenarios": len(scenarios),
        "gate_to_bare_playing": median(ratios),
        "gate_seconds": median(gates),
        "gate_seconds_per_scenario": median(gates) / len(scenarios),
        "bare_seconds": median(bares),
        "bare_seconds_per_scenario": median(runs) / len(scenarios),
    }


def bench_recorder(*, scenarios: Sequence[Scenario], device: str, rounds: int) -> dict[str, Any]:
    """Time recording against not recording, and how encoding and diffing grow with the trace.

    A linearity of 1 means that ten times the events take ten times as long.
    """
    times = run_in_new_process(recorder_times, list(scenarios), device, rounds)
    pairs = zip(times.recorded, times.unrecorded, strict=True)
    encode = run_in_new_process(encode_seconds, rounds)
    diff = run_in_new_process(diff_seconds, rounds)
    return {
        "rounds": rounds,
        "scenarios": len(scenarios),
        "recorded_to_unrecorded": median(on / off for on, off in pairs),
        "off_to_never_on": median(times.unrecorded) / median(times.before),
        "unrecorded_seconds_per_scenario": median(times.before) / len(scenarios),
        "encode_linearity": _linearity(encode),
        "encode_microseconds_per_event": encode[-1] / SIZES[-1] * 1e6,
        "diff_linearity": _linearity(diff),
        "diff_microseconds_per_event": diff[-1] / SIZES[-1] * 1e6,
    }


def bench_devices(*, scenarios: Sequence[Scenario], rounds: int) -> dict[str, Any]:
    """Time recorded runs on the simulated accelerator against the eager CPU device."""
    pairs = run_in_new_process(device_times, list(scenarios), "sim", "cpu", rounds)
    return {
        "rounds": rounds,
        "scenarios": len(scenarios),
        "sim_to_cpu": median(sim / cpu for sim, cpu in pairs),
        "cpu_seconds_per_scenario": median(cpu for _, cpu in pairs) / len(scenarios),
    }


def run_in_new_process(
    work: Callable[_Arguments, _Result], *arguments: _Arguments.args, **options: _Arguments.kwargs
) -> _Result:
    """Run a function in a process of its own; what it prints goes to stderr."""
    with ProcessPoolExecutor(
        max_workers=1, mp_context=get_context("spawn"), initializer=os.dup2, initargs=(2, 1)
    ) as pool:
        return pool.submit(work, *arguments, **options).result()


def gate_seconds(root: Path, *, device: str, arguments: Sequence[str]) -> float:
    """Return the seconds of one ``goldentrace gate``.

    Raises:
        ToolError: it could not judge.
    """
    command = [sys.executable, "-P", "-m", "tools.cli", "gate", "--device", device, *arguments]
    paths = [str(root), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with TemporaryDirectory(prefix="goldentrace-bench-") as cache:
        # Runs of an earlier gate would be used again.
        environment[CACHE_VARIABLE] = cache
        start = time.perf_counter()
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=False
        )
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 1):
        got = one_line(done.stderr)
        raise ToolError("gate", "must come to a verdict", expected="exit code 0 or 1", got=got)
    return seconds


def _linearity(seconds: Sequence[float]) -> float:
    small, large = seconds
    return (large / small) / (SIZES[1] / SIZES[0])
