"""Speed of the gate and cost of recording, as ratios: seconds differ between machines."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, ParamSpec, TypeVar

from tools.bench.timings import (
    SIZES,
    device_times,
    diff_seconds,
    encode_seconds,
    recorder_times,
    unrecorded_seconds,
)
from tools.errors import ToolError, one_line
from traces.targets.common.scenario import Scenario

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


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
